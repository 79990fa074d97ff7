"""The house: nine rows of packages. A module imports its own package and lower rows only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from module_imports import PACKAGE, imports_of, modules_of, rooms_of

ROWS = (  # the lowest first; the picture is in hnervcodec/README.md
    {"errors", "planes", "_version"},
    {"system", "metrics", "bitstream"},
    {"synthesis", "media"},
    {"fitting", "decoding", "player"},
    {"encoding"},
    {"api", "benchmark"},
    {"commands"},
    {"cli"},
    {"__main__"},
)


ROW = {room: number for number, rooms in enumerate(ROWS) for room in rooms}


def broken_rules(package: Path) -> list[str]:
    """A line for each module without a row, for each import that goes up, to a neighbour in its
    row or to the package itself, whose names come from any row, and for each circle."""
    modules = modules_of(package)
    broken = []
    for module, path in modules.items():
        own = module.split(".")[0]
        if own not in ROW:
            broken.append(f"{module} has no row")
            continue
        for room in rooms_of(path) - {own}:
            if ROW.get(room, len(ROWS)) >= ROW[own]:
                broken.append(f"{module} imports {room or 'the package itself'}")
    imports = {module: imports_of(path, modules) for module, path in modules.items()}
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
        ("bitstream/fields.py", "from hnervcodec import Decoder"),  # by way of the package
        ("bitstream/fields.py", "import hnervcodec.decoding"),
        ("bitstream/fields.py", "import hnervcodec"),
        ("new_room.py", ""),  # without a row
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, module: str, line: str) -> None:
    copy = tmp_path / "hnervcodec"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with open(copy / module, "a") as file:
        file.write(f"\n{line}\n")
    assert broken_rules(copy)
