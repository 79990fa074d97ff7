"""Tables of measurements: CSV with a row for each instance of a dataclass of str, int and float."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as CSV, below a line of the first row's names; there must be a row."""
    rows, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def load(path: Path, kind: type[T]) -> list[T]:
    """Every row of the table at `path`, as an instance of the dataclass `kind`; none if there is no
    such file. ValueError if it is not such a table."""
    if not path.exists():
        return []
    types = get_type_hints(kind)
    with open(path, newline="") as file:
        try:
            return [
                kind(**{f.name: types[f.name](row[f.name]) for f in fields(kind)})  # type: ignore[arg-type]
                for row in csv.DictReader(file)
            ]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{path} is no table of {kind.__name__}s: {error}") from error
