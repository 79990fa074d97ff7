"""The scripts in tools/examples do what they say, on files that they make themselves."""

import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from PIL import Image
from running import ROOT, Args

EXAMPLES = ROOT / "tools/examples"


def output(name: str, folder: Path) -> str:
    command: Args = [sys.executable, EXAMPLES / name]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_training_loader(tmp_path: Path) -> None:
    text = output("training_loader.py", tmp_path)
    found = re.fullmatch(r"72 frames, \d+ frames/s; loss ([\d.]+) -> ([\d.]+)\n", text)
    assert found and float(found[2]) < 0.9 * float(found[1])


@pytest.mark.slow
def test_frame_server(tmp_path: Path) -> None:
    assert output("frame_server.py", tmp_path).startswith("frames.png: ")
    with Image.open(tmp_path / "frames.png") as picture:
        assert picture.size == (4 * 160, 80)
        colours = cast(tuple[tuple[int, int], ...], picture.convert("RGB").getextrema())
    assert all(high - low > 100 for low, high in colours)


@pytest.mark.slow
def test_compare_x265(tmp_path: Path) -> None:
    lines = output("compare_x265.py", tmp_path).splitlines()
    rows = [re.fullmatch(r"(\w+) +([\d,]+) bytes  PSNR ([\d.]+) .*", line) for line in lines]
    ours, theirs = (row for row in rows if row)
    sizes = [int(row[2].replace(",", "")) for row in (ours, theirs)]
    assert (ours[1], theirs[1]) == ("hnv", "x265") and 0.8 * sizes[0] < sizes[1] <= sizes[0]
    assert 18 < float(ours[3]) < float(theirs[3])


@pytest.mark.parametrize("name", [path.name for path in EXAMPLES.glob("*.py")])
def test_each_has_a_test(name: str) -> None:
    assert f"test_{name.removesuffix('.py')}" in globals()
