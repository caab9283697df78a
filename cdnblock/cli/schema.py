"""`cdnblock schema`: the order file's JSON Schema."""

from __future__ import annotations

import json

import click


@click.command
def command() -> None:
    r"""Print the JSON Schema (2020-12) of the order file, for editors and other checkers.

    Example: cdnblock schema > order.schema.json, and as first line of an order file:

    \b
    # yaml-language-server: $schema=order.schema.json
    """
    from cdnblock.orders.schema import order_schema

    click.echo(json.dumps(order_schema(), ensure_ascii=False, indent=2))
