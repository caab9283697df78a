"""`--metrics ADDRESS`: Prometheus' page, for the commands that have no HTTP of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from cdnblock.enforcer import Enforcer
    from cdnblock.metrics import Row

_PORT: Final = 9153

metrics_option = click.option(
    "--metrics", metavar="ADDRESS", help=f"Address and port for Prometheus' GET /metrics, such as 127.0.0.1:{_PORT}."
)


@contextmanager
def serving_metrics(
    address: str | None, enforcer: Enforcer, own: Callable[[], Iterable[Row]] = tuple
) -> Iterator[None]:
    """Give the numbers of an enforcer and its host's own to Prometheus, where there is an address to ask.

    Raises ConfigError for what is no address, or one that cannot be listened on.
    """
    if address is None:
        yield
        return
    from cdnblock.adapters._dns_front.peers import read_address
    from cdnblock.metrics import Collector, serve_metrics

    with serve_metrics(read_address(address, _PORT), Collector(enforcer, own)) as (host, port):
        click.echo(f"cdnblock: metrics on http://{f'[{host}]' if ':' in host else host}:{port}/metrics", err=True)
        yield
