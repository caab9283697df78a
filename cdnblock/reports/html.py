"""A document as one HTML file: no script, nothing fetched, for paper and screens, in light and dark."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from typing import Any, Final, NamedTuple

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from cdnblock.reports.document import Bullets, Chart, Document, Facts, Link, Sentence, Table
from cdnblock.reports.escaping import plain

_WIDTH: Final = 720.0
_HEIGHT: Final = 180.0
_LEFT: Final = 56.0  # for the numbers of the axis
_BELOW: Final = 22.0  # for the days
_WEB: Final = ("https://", "http://")

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1c1d21; --soft: #565963; --line: #d8d5cd; --link: #0b4fa8; --good: #1d6b3a; --bad: #8a1c1c; --warning: #7a4b00; --bar: #3565a8 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15171b; --ink: #e9e8e4; --soft: #a8abb3; --line: #343840; --link: #8fbcff; --good: #86d6a2; --bad: #ff9d94; --warning: #f0c274; --bar: #7ea8e6 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere }
main { max-width: 62rem; margin: 0 auto; padding: clamp(1.25rem, 5vw, 3.5rem) clamp(1rem, 4vw, 2rem) }
h1 { margin: 0 0 .8rem; font-size: clamp(1.6rem, 5vw, 2.1rem); line-height: 1.2 }
h2 { margin: 2.4rem 0 .8rem; padding-top: 1.4rem; border-top: 1px solid var(--line); font-size: 1.2rem; line-height: 1.3 }
.lead { font-size: 1.1rem; margin: 0 0 .6rem; font-weight: 600 }
.good { color: var(--good) }
.bad { color: var(--bad) }
.warning { color: var(--warning) }
dl { display: grid; grid-template-columns: minmax(9rem, 15rem) 1fr; gap: .45rem 1.5rem; margin: 0 0 1.4rem }
dt { color: var(--soft) }
dd { margin: 0 }
.wide { overflow-x: auto; margin: 0 0 1.2rem }
table { border-collapse: collapse; width: 100%; overflow-wrap: break-word; font-size: .93rem; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); padding: 0 0 .4rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); min-width: 6rem }
th { font-weight: 600 }
.number { text-align: right; min-width: 4rem; padding-right: 1.6rem }
figure { margin: 0 0 1.4rem }
svg { display: block; width: 100%; height: auto }
.bar { fill: var(--bar) }
.axis { stroke: var(--line) }
.tick { fill: var(--soft); font: 11px system-ui, sans-serif }
a { color: var(--link); text-underline-offset: .15em }
a:focus-visible, .wide:focus-visible { outline: 2px solid; outline-offset: 3px }
footer { margin-top: 2.4rem; padding-top: 1.2rem; border-top: 1px solid var(--line); color: var(--soft) }
@media (max-width: 34rem) { dl { display: block } dt { font-size: .9rem } dd { margin: 0 0 .7rem } }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #333; --line: #999; --link: #000; --good: #000; --bad: #000; --warning: #000; --bar: #555 }
  main { max-width: none; padding: 0 }
  .wide { overflow: visible }
  table { overflow-wrap: anywhere }
  th, td { min-width: 0 }
  tr, figure { break-inside: avoid }
  h2 { break-after: avoid }
  thead { display: table-header-group }
}
"""

_PAGE: Final = """\
{% macro cell(value) %}
{% if value is link %}{% if value.url is web %}<a href="{{ value.url }}" rel="noreferrer">{{ value.url }}</a>{% else %}<bdi>{{ value.url }}</bdi>{% endif %}
{%- elif value is integer %}{{ "{:,}".format(value) }}
{%- else %}<bdi>{{ value }}</bdi>{% endif %}
{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="robots" content="noindex">
<meta name="referrer" content="no-referrer">
<title>{{ document.title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<h1><bdi>{{ document.title }}</bdi></h1>
{% for sentence in document.lead %}
<p class="lead {{ sentence.tone }}"><bdi>{{ sentence.text }}</bdi></p>
{% endfor %}
</header>
{% for section in document.sections %}
<section aria-labelledby="section-{{ loop.index }}">
<h2 id="section-{{ loop.index }}">{{ section.heading }}</h2>
{% for block in section.blocks %}
{% if block is sentence %}
<p class="{{ block.tone }}"><bdi>{{ block.text }}</bdi></p>
{% elif block is facts %}
<dl>
{% for label, value in block.rows %}
<dt>{{ label }}</dt><dd>{{ cell(value) }}</dd>
{% endfor %}
</dl>
{% elif block is bullets %}
<ul class="{{ block.tone }}">
{% for item in block.items %}
<li><bdi>{{ item }}</bdi></li>
{% endfor %}
</ul>
{% elif block is chart %}
<figure>
<svg viewBox="0 0 {{ block.width }} {{ block.height }}" role="img" aria-labelledby="chart-title chart-description">
<title id="chart-title">{{ block.title }}</title>
<desc id="chart-description">{{ block.description }}</desc>
{% for line in block.lines %}
<line class="axis" x1="{{ block.left }}" x2="{{ block.width }}" y1="{{ line.y }}" y2="{{ line.y }}"/>
<text class="tick" x="{{ block.left - 6 }}" y="{{ line.y + 4 }}" text-anchor="end">{{ line.label }}</text>
{% endfor %}
{% for bar in block.bars %}
<rect class="bar" x="{{ bar.x }}" y="{{ bar.y }}" width="{{ bar.width }}" height="{{ bar.height }}"/>
{% endfor %}
{% for tick in block.ticks %}
<text class="tick" x="{{ tick.x }}" y="{{ block.height - 5 }}" text-anchor="{{ tick.anchor }}">{{ tick.label }}</text>
{% endfor %}
</svg>
<figcaption>{{ block.title }}</figcaption>
</figure>
{% else %}
<div class="wide" tabindex="0" role="region" aria-label="{{ block.caption }}">
<table>
<caption>{{ block.caption }}</caption>
<thead><tr>{% for label in block.header %}<th scope="col"{% if loop.index0 in block.numbers %} class="number"{% endif %}>{{ label }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in block.rows %}
<tr>{% for value in row %}<td{% if loop.index0 in block.numbers %} class="number"{% endif %}>{{ cell(value) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
{% if block.more %}
<p>… and {{ "{:,}".format(block.more) }} more rows, which the JSON form has.</p>
{% endif %}
</div>
{% endif %}
{% endfor %}
</section>
{% endfor %}
<footer><p>{{ document.made }}</p></footer>
</main>
</body>
</html>
"""

_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"


class _Table(NamedTuple):
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: int
    numbers: frozenset[int]


class _Line(NamedTuple):
    y: float
    label: str


class _Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float


class _Tick(NamedTuple):
    x: float
    label: str
    anchor: str


class _Chart(NamedTuple):
    title: str
    description: str
    bars: tuple[_Bar, ...]
    lines: tuple[_Line, ...]
    ticks: tuple[_Tick, ...]
    width: float = _WIDTH
    height: float = _HEIGHT
    left: float = _LEFT


def as_html(document: Document) -> str:
    """Return the page; every text in it is escaped by the template."""
    sections = [
        {"heading": section.heading, "blocks": [_drawn(block) for block in section.blocks]}
        for section in document.sections
    ]
    shown = {"title": document.title, "lead": document.lead, "made": document.made, "sections": sections}
    return _TEMPLATE.render(document=shown)


def _drawn(block: object) -> object:
    if isinstance(block, Table):
        columns = range(len(block.header))
        numbers = frozenset(n for n in columns if block.rows and all(isinstance(row[n], int) for row in block.rows))
        return _Table(block.caption, block.header, block.rows, block.more, numbers)
    return _chart(block) if isinstance(block, Chart) else block


def _chart(chart: Chart) -> _Chart:
    """Return the bars and the axes of a chart, in the units of its view box."""
    top = _round_up(max(count for _, count in chart.days))
    room = _HEIGHT - _BELOW - 8
    step = (_WIDTH - _LEFT) / len(chart.days)
    bars = tuple(
        _Bar(
            x=round(_LEFT + step * index + step * 0.1, 2),
            y=round(8 + room * (1 - count / top), 2),
            width=round(step * 0.8, 2),
            height=round(room * count / top, 2),
        )
        for index, (_, count) in enumerate(chart.days)
        if count
    )
    lines = tuple(_Line(y=round(8 + room * (1 - part), 2), label=f"{int(top * part):,}") for part in (0, 0.5, 1))
    return _Chart(chart.title, chart.description, bars, lines, tuple(_ticks([day for day, _ in chart.days], step)))


def _ticks(days: list[date], step: float) -> Iterator[_Tick]:
    yield _Tick(_LEFT, days[0].isoformat(), "start")
    if len(days) > 1:
        yield _Tick(_WIDTH, days[-1].isoformat(), "end")
    if len(days) > 4:  # noqa: PLR2004 (there is room for a third)
        middle = len(days) // 2
        yield _Tick(round(_LEFT + step * (middle + 0.5), 2), days[middle].isoformat(), "middle")


def _round_up(count: int) -> int:
    """Return the next of 2, 4, 10, 20, 40, 100 …, so that half of it is whole."""
    top = 1
    while True:
        for factor in (2, 4, 10):
            if count <= top * factor:
                return top * factor
        top *= 10


def _environment() -> Environment:
    environment = Environment(
        loader=DictLoader({"report": _PAGE}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    kinds = {"sentence": Sentence, "facts": Facts, "bullets": Bullets, "chart": _Chart, "link": Link}
    for name, kind in kinds.items():
        environment.tests[name] = lambda value, kind=kind: isinstance(value, kind)
    environment.tests["web"] = lambda url: url.startswith(_WEB)
    return environment


_TEMPLATE: Final = _environment().get_template(
    "report",
    globals={"style": Markup(_STYLE), "policy": _POLICY},  # noqa: S704 (a constant of this file; escaping would break its hash)
)
