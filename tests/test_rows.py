"""The house: nine rows of packages. A module imports its own package and lower rows only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from module_imports import PACKAGE, imports_of, modules_of

ROWS = (  # the lowest first; the picture is in hnervcodec/README.md
    {"errors", "planes", "_version"},
    {"system", "metrics", "bitstream"},
    {"synthesis", "media"},
    {"fitting", "decoding"},
    {"encoding"},
    {"api", "benchmark"},
    {"commands"},
    {"cli"},
    {"__main__"},
)


def row_of(module: str) -> int:
    """The row of `bitstream.fields` or `errors`; StopIteration if it has none."""
    return next(n for n, row in enumerate(ROWS) if module.split(".")[0] in row)


def broken_rules(package: Path) -> list[str]:
    """A line for each import that goes up or to a neighbour in its row, and for each circle."""
    modules = modules_of(package)
    imports = {module: imports_of(path, modules) for module, path in modules.items()}
    broken = [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        if module.split(".")[0] != other.split(".")[0] and row_of(other) >= row_of(module)
    ]
    remaining = dict(imports)
    while leaves := [m for m, others in remaining.items() if not others & remaining.keys()]:
        for module in leaves:
            del remaining[module]
    return broken + [f"{module} is part of a circle, or imports one" for module in remaining]


def test_the_house_stands() -> None:
    assert broken_rules(PACKAGE) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("bitstream/fields.py", "from hnervcodec.decoding import decoder"),  # turned round
        ("bitstream/fields.py", "from hnervcodec.bitstream import container"),  # a circle
        ("synthesis/tables.py", "from hnervcodec.media.frames import to_frame"),  # a neighbour
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, module: str, line: str) -> None:
    copy = tmp_path / "hnervcodec"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with open(copy / module, "a") as file:
        file.write(f"\n{line}\n")
    assert broken_rules(copy)
