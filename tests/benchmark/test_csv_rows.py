"""Tables of measurements: what was written is read, what is no table is refused."""

from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from reference import append

from hnervcodec.benchmark.csv_rows import load, to_csv


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    value: float


ROWS = [Row("plain", 1, 0.1), Row('with, "quotes"', -2, float("inf")), Row("", 3, 1e-9)]


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "rows.csv"
    assert load(path, Row) == []
    append(path, ROWS[:1])
    append(path, ROWS[1:])
    assert load(path, Row) == ROWS
    assert path.read_text() == to_csv(map(asdict, ROWS))
    assert path.read_text().startswith("name,count,value\nplain,1,0.1\n")


@pytest.mark.parametrize(
    "content",
    [
        b"name,count\na,1\n",
        b"name,count,value\na,1\n",
        b"name,count,value\na,b,1\n",
        b"\xff\x00\n1",
    ],
)
def test_no_table(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no table of Rows"):
        load(path, Row)
