"""What came back: an HTTP answer, a DNS answer, or nothing that deserves the name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from cdnblock.verification.dns_packets import RCODES, Reading

CLOSED: Final = 0
"""The status of an HTTP exchange whose connection (HTTP/2: stream) ended without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """Status and header lines as they came, names in lower case; `status` is `CLOSED` where there was no answer.

    `why` then says where it ended, if that was not where an answer is due. `body` is how it begins, as it was sent.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    why: str = ""
    body: bytes = b""

    def of(self, name: str) -> list[str]:
        """Return the values of a field, each as a line has it."""
        return [value for key, value in self.headers if key == name]

    def __str__(self) -> str:
        """Return the status, or `closed`."""
        if self.status:
            return str(self.status)
        return "closed without an answer" + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsAnswer:
    """One answer of a name server."""

    reading: Reading

    def __str__(self) -> str:
        """Return for example `REFUSED with EDE 16`, or `NOERROR with 2 records`."""
        said = self.reading
        what = RCODES.get(said.rcode, f"RCODE {said.rcode}")
        if said.answers:
            what += f" with {said.answers} record{'' if said.answers == 1 else 's'}"
        elif said.rcode == 0:
            what += " without a record"
        return what + "".join(f" with EDE {code}" for code in said.codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """No answer: in words what came in its place. `reached` is False where nobody was there to ask."""

    why: str
    reached: bool = True

    def __str__(self) -> str:
        """Return why."""
        return self.why


Answer: TypeAlias = HttpAnswer | DnsAnswer | Nothing
