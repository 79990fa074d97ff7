"""The rows that tools/paper measures, and the table that keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from reference import ROOT

from hnervcodec.benchmark import csv_rows

ROWS = ROOT / "tools/results/paper/rows.csv"
PARAMETERS = 100_000  # where a study has but one size; hnv's files get a byte for each


@dataclass(frozen=True)
class Job:
    study: str
    clip: str
    model: str  # of the family, "hnv PRESET", or a method to be beaten
    parameters: int = PARAMETERS
    epochs: int = 0


@dataclass(frozen=True)
class Row:
    """One measurement."""

    study: str
    clip: str
    model: str
    parameters: int
    epochs: int
    measured: str  # what `value` is
    value: float
    bytes: int
    seconds: float  # of fitting
    threads: int


def load() -> list[Row]:
    return csv_rows.load(ROWS, Row)
