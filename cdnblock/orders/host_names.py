"""What a court writes -> the canonical name it means, or why it is no host name.

Lists in orders are typed by hand, copied out of PDF files and notified as URLs, so each usual mistake is told apart:
who corrects it must know what the list meant.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from typing import Final

from cdnblock.matching.names import MAX_LABEL, MAX_NAME, MAX_UNICODE, canonical, to_unicode
from cdnblock.orders.text_file import cut

CLEAN: Final = re.compile(r"(?:[a-z0-9_][a-z0-9_-]{0,62}\.)+[a-z][a-z0-9_-]{0,62}\Z")
"""A name that is canonical as it stands, if it has at most 253 octets and no `xn--`: nearly all of them."""

# URLs allow more in a host ($, quotes); no name that anybody registers has it, and other people's files would break.
_LABELS: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\Z")
_MAX_READ: Final = 4_000  # of a longer text nothing is looked at
_ONE_URL: Final = "an order on a URL is not an order on its host"
_SCHEME: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]*")
_AFTER_HOST: Final = re.compile(r"[/\\?#]")
_PORT: Final = re.compile(r":[0-9]*\Z")
_DOTS: Final = re.compile("[.\u3002\uff0e\uff61]")  # what UTS 46 takes for a dot
_SEPARATORS: Final = re.compile("[,;|]")
_DEFANGED: Final = re.compile(r"\[\.\]|\(\.\)|\[dot\]|\(dot\)", re.IGNORECASE)
_A_NUMBER: Final = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)\Z")


def host_name(text: str) -> str:
    """Return the canonical form of a name as an order lists it; upper case, U-labels and one last dot are fine.

    Raises:
        ValueError: it is no host name; the message says what it is, and what would be right.

    """
    plain = text.lower().removesuffix(".") if text.isascii() and len(text) <= MAX_NAME + 1 else ""
    if CLEAN.match(plain) and len(plain) <= MAX_NAME and "xn--" not in plain:
        return plain
    if len(text) > _MAX_READ:
        raise ValueError(f"`{cut(text)}` has {len(text):,} characters; a host name has at most {MAX_NAME}")
    _refuse_what_is_no_name(text)
    name = canonical(text)
    if name is not None and _ip_address(name):
        raise ValueError(_no_address(text, name))
    _refuse_bad_labels(text)
    if not text.isascii() and len(text) > MAX_UNICODE:
        raise ValueError(
            f"`{cut(text)}` has more than {MAX_UNICODE} characters; write a name that long in A-labels (xn--)"
        )
    if name is None or not _LABELS.match(name):
        raise ValueError(f"`{cut(text)}` is no host name; write letters, digits and hyphens, such as `site.example`")
    if "." not in name:
        raise ValueError(f"`{cut(text)}` is a single label; write the whole name, such as `site.example`")
    _refuse_what_does_not_round_trip(text, name)
    return name


def _refuse_what_is_no_name(text: str) -> None:
    words = text.split()
    if not words:
        raise ValueError("the name is empty; write a host name, or remove the entry")
    if len(words) > 1:
        raise ValueError(f"`{cut(text)}` holds {len(words)} names or words in one line; write each name on its own")
    if words[0] != text:
        raise ValueError(f"`{cut(text)}` has spaces around the name; write `{cut(words[0])}`")
    for characters, mistake in _MISTAKES:
        if any(character in text for character in characters):
            raise ValueError(mistake(text))


def _refuse_bad_labels(text: str) -> None:
    labels = _DOTS.split(text)
    if not labels[-1] and len(labels) > 1:
        labels.pop()  # one dot at the end is fine
    if not all(labels):
        wanted = ".".join(filter(None, labels))
        right = f"write `{cut(wanted)}`, which covers everything below it too" if wanted else "write a host name"
        raise ValueError(f"`{cut(text)}` has an empty label; {right}")
    sizes = [len(label) if label.isascii() else len(label.encode("punycode")) + len("xn--") for label in labels]
    if max(sizes) > MAX_LABEL:
        label = labels[sizes.index(max(sizes))]
        raise ValueError(f"the label `{cut(label)}` has more than {MAX_LABEL} octets; no host name has, correct it")
    if sum(sizes) + len(sizes) - 1 > MAX_NAME:
        raise ValueError(f"`{cut(text)}` has more than {MAX_NAME} octets; no host name has, correct it")
    if _A_NUMBER.match(labels[-1]):
        raise ValueError(f"`{cut(text)}` ends in a number, so that it is read as an IP address; write a host name")


def _refuse_what_does_not_round_trip(text: str, name: str) -> None:
    unicode = to_unicode(name)
    spelled = unicodedata.normalize("NFC", ".".join(_DOTS.split(text.lower()))).removesuffix(".")
    if not text.isascii() and spelled != unicode:
        raise ValueError(
            f"`{cut(text)}` is not what its ASCII form `{cut(name)}` stands for, `{cut(unicode)}`: it has characters "
            f"that only look alike, or that nobody sees; write `{cut(unicode)}` if the order means that"
        )
    if "xn--" not in name:
        return
    pairs = zip(unicode.split("."), name.split("."), strict=True)
    if any(
        label.startswith("xn--") or (label != a_label and canonical(label) != a_label) for label, a_label in pairs
    ) or (len(unicode) <= MAX_UNICODE and canonical(unicode) != name):
        raise ValueError(
            f"`{cut(text)}` is no valid internationalised name: `{cut(name)}` does not come back from its Unicode form; "
            "copy the name from the order in Unicode"
        )


def _url(text: str) -> str:
    if network := _network(text):
        return f"`{cut(text)}` is an address range ({network}); an order file lists host names, write those"
    authority = _AFTER_HOST.split(_SCHEME.sub("", text, count=1), maxsplit=1)[0]
    host = canonical(authority.rpartition("@")[2])
    if host is None:
        return f"`{cut(text)}` is a URL or a path; {_ONE_URL}, write a host name only if the order names one"
    if _ip_address(host):
        return f"`{cut(text)}` is a URL of the IP address {host}; an order file lists host names, write those"
    return f"`{cut(text)}` is a URL of the host `{host}`; {_ONE_URL}: write `{host}` only if the order names the host"


def _several(text: str) -> str:
    parts = [part for part in _SEPARATORS.split(text) if part]
    return f"`{cut(text)}` holds {len(parts)} names in one line; write each name on its own, without , ; or |"


def _wildcard(text: str) -> str:
    base = text.removeprefix("*").lstrip(".")
    if base and "*" not in base and canonical(base):
        return f"`{cut(text)}` is a wildcard; write `{cut(base)}`, which already covers everything below it"
    return (
        f"`{cut(text)}` is a wildcard; write each host name, or the name above them, which covers everything below it"
    )


def _user(text: str) -> str:
    return f"`{cut(text)}` has a user before the host; write `{cut(text.rpartition('@')[2])}`"


def _percent(text: str) -> str:
    return f"`{cut(text)}` is percent-encoded; write `{canonical(text) or 'the characters themselves'}`"


def _brackets(text: str) -> str:
    if _DEFANGED.search(text):
        return f"`{cut(text)}` has its dots in brackets; write `{cut(_DEFANGED.sub('.', text))}`"
    return _colon(text)


def _colon(text: str) -> str:
    if address := _ip_address(text.strip("[]")):
        return _no_address(text, address)
    host = _PORT.sub("", text)
    if host != text and ":" not in host:
        return f"`{cut(text)}` has a port; write `{cut(host)}`, an order on a host holds on every port"
    return f"`{cut(text)}` has a character that no host name has; write letters, digits, hyphens and dots only"


def _no_address(text: str, address: str) -> str:
    same = "" if text == address else f" ({address})"
    return (
        f"`{cut(text)}` is an IP address{same}, which many sites may share; write the host names that the order lists"
    )


def _ip_address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _network(text: str) -> str | None:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return None


# What no host name holds -> what the text is then. The first that is there decides.
_MISTAKES: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("/\\?#", _url),
    (",;|", _several),
    ("*", _wildcard),
    ("@", _user),
    ("%", _percent),
    ("[]()", _brackets),
    (":", _colon),
)
