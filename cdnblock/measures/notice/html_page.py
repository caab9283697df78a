"""The notice as a page: one file, no script, nothing fetched, readable on a telephone and in the dark."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import Final

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from cdnblock.measures.notice.contents import Contents

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #5b5e68; --line: #dcd9d1; --link: #0b4fa8; --mark: #8a1c1c }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a3a6ae; --line: #343840; --link: #8fbcff; --mark: #ff9d94 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere }
main { max-width: 46rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1.1rem, 5vw, 2rem) }
.status { margin: 0 0 .5rem; color: var(--mark); font-weight: 600; letter-spacing: .04em }
h1 { margin: 0 0 1.1rem; font-size: clamp(1.7rem, 5vw, 2.2rem); line-height: 1.18; letter-spacing: -.01em; text-wrap: balance }
.lead { margin: 0; font-size: 1.12rem }
section { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line) }
h2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .6rem 1.75rem; margin: 0 }
dt { color: var(--soft) }
dd { margin: 0 }
a { color: var(--link); text-underline-offset: .15em }
a:focus-visible { outline: 2px solid; outline-offset: 3px }
footer { margin-top: 2.4rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft) }
footer p { margin: 0 0 .4rem }
@media (max-width: 34rem) {
  dl { display: block }
  dt { font-size: .9rem }
  dd { margin: 0 0 .9rem }
}
@media print { body { background: #fff; color: #000 } main { padding: 0 } }
"""

_PAGE: Final = """\
<!doctype html>
<html lang="{{ wording.language }}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{{ status }} – {{ wording.title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<p class="status">HTTP {{ status }}</p>
<h1>{{ wording.title }}</h1>
<p class="lead">{{ lead[0] }}{% for name in names %}<strong><bdi>{{ name }}</bdi></strong>{% if loop.revindex == 2 %}{{ wording.last }}{% elif not loop.last %}, {% endif %}{% endfor %}{{ lead[1] }}</p>
</header>
{% for section in sections %}
<section aria-labelledby="order-{{ loop.index }}">
<h2 id="order-{{ loop.index }}"><bdi>{{ section.heading }}</bdi></h2>
<dl>
{% for row in section.rows %}
<dt>{{ row.label }}</dt>
<dd>{% if row.link %}<a href="{{ row.link }}" rel="noreferrer">{{ row.value }}</a>{% else %}<bdi>{{ row.value }}</bdi>{% endif %}</dd>
{% endfor %}
</dl>
</section>
{% endfor %}
<footer>
{% if operator %}
<p>{{ wording.operator }}{{ wording.colon }} <a href="{{ operator }}" rel="noreferrer">{{ operator }}</a></p>
{% endif %}
<p>{{ wording.existence }}</p>
</footer>
</main>
</body>
</html>
"""

# Read and compiled once, here: nothing is loaded while a request waits.
_TEMPLATE: Final = Environment(
    loader=DictLoader({"notice": _PAGE}),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
).get_template("notice", globals={"style": Markup(_STYLE)})  # noqa: S704 (a constant of this file; escaping would break its hash)

_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"
)
"""The page may show its own style and nothing else. Framing is allowed: embedded players must show the notice too."""


def render(contents: Contents, status: int, _reason: str) -> str:
    """Return the page; every text in it is escaped by the template."""
    return _TEMPLATE.render(
        status=status,
        wording=contents.wording,
        lead=contents.lead,
        names=contents.names,
        sections=contents.sections,
        operator=contents.operator,
    )
