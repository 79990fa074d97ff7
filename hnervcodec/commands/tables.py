"""Tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click


def print_columns(names: list[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table whose columns are as wide as their widest word."""
    table = [names, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        padded = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded))
