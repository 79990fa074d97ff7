"""The player's module in Node decodes what the specification's vectors say, and its colours are
`Decoder`'s."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from running import ROOT
from vectors import repair

from hnervcodec import Decoder

PLAYER = ROOT / "hnervcodec/player"
VECTORS = ROOT / "spec/vectors"
# Node 20 has products of bytes behind a flag, and its first compiler gets them wrong.
BYTES = ("--experimental-wasm-relaxed-simd", "--no-liftoff")
MATRIX, RANGE, SITING = 24 + 16 + 10, 24 + 16 + 7, 24 + 16 + 6  # bytes of VHDR in a file

if not shutil.which("node"):
    pytest.skip("node is not installed", allow_module_level=True)


def node(*arguments: object) -> str:
    command = ["node", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("flags", [(), BYTES], ids=["words", "bytes"])
def test_every_vector(flags: tuple[str, ...]) -> None:
    files = sorted(VECTORS.glob("*/*.hnv"))
    out = node(*flags, ROOT / "tests/player/decode.mjs", PLAYER, *files)
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == len(files)
    for path, (name, result, seconds, megabytes) in zip(files, lines, strict=True):
        facts = json.loads(path.with_suffix(".json").read_text())
        between = [moment["md5"] for moment in facts.get("between", ())]
        assert result == facts.get("error") or result == facts["md5"] + between, name
        if "error" in facts:
            assert seconds < 1 and megabytes < 64, name


def varied(name: str, **bytes_at: int) -> bytes:
    """A vector whose VHDR says something else of the same samples."""
    data = bytearray((VECTORS / f"valid/{name}.hnv").read_bytes())
    places = {"matrix": MATRIX, "full": RANGE, "siting": SITING}
    for key, value in bytes_at.items():
        data[places[key]] = value
    return repair(bytes(data))


def coloured() -> list[bytes]:
    files = [
        varied(f"yuv{chroma}-{depth}bit", full=full)
        for chroma in (400, 420, 422, 444)
        for depth in (8, 10, 12)
        for full in (0, 1)
    ]
    files += [varied("yuv420-8bit", matrix=m) for m in (1, 4, 6, 7, 9, 14)]
    files += [varied(f"yuv444-{depth}bit", matrix=0) for depth in (8, 10, 12)]
    for name in ("yuv420-8bit", "odd-size-420", "one-sample-420", "odd-size-422"):
        files += [varied(name, siting=siting) for siting in (0, 1, 2, 3, 4, 5)]
    return files


def test_colours_are_those_of_decoder(tmp_path: Path) -> None:
    files = []
    for n, data in enumerate(coloured()):
        files.append(tmp_path / f"{n}.hnv")
        files[-1].write_bytes(data)
    node(ROOT / "tests/player/colours.mjs", PLAYER, tmp_path / "rgba", *files)
    made, at = np.fromfile(tmp_path / "rgba", np.uint8), 0
    for path in files:
        with Decoder(path, dimension_order="NHWC") as decoder:
            right = decoder[0].numpy()
            facts = decoder.video
        height, width, _ = right.shape
        rgba = made[at : at + 4 * height * width].reshape(height, width, 4)
        at += rgba.size
        assert np.abs(rgba[..., :3].astype(int) - right).max() <= 1, facts
        assert (rgba[..., 3] == 255).all()
    assert at == made.size


def test_kernels_are_what_clang_makes(tmp_path: Path) -> None:
    found = shutil.which("clang-19")
    if (
        not found
        or "19.1.7"
        not in subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    ):
        pytest.skip("clang 19.1.7 is not installed")
    subprocess.run([ROOT / "tools/make_kernels", tmp_path], check=True)
    for name in ("kernel.wasm", "kernel_i8.wasm"):
        assert (tmp_path / name).read_bytes() == (PLAYER / name).read_bytes(), name
