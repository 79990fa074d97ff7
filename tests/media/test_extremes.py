"""Headers of extreme rates, times, aspects and colour codes end in a clear line or a clear note in
every output format: never in Python's or libav's words, and never in a signal."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import extremes
import numpy as np
import pytest
from running import Args, error_of, hnv
from vectors import make_file, random_segment

from hnervcodec import Decoder
from hnervcodec.media.carrier_times import rescaled, within_int32
from hnervcodec.media.output_formats import CONTAINERS, FORMATS
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import plane_bytes

# What libav and Python say where nobody has said it before them
FOREIGN = re.compile(r"Invalid|too large|int\b|not supported|patches|Error|Errno|overflow|Nothing")
EXACTNESS = {"mkv": Fraction(1, 2000), "webm": Fraction(1, 2000), "gif": Fraction(1, 200)}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_cannot(name: str, tmp_path: Path) -> None:
    command: Args = [sys.executable, extremes.__file__, name, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, (run.returncode, run.stderr[-500:])
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(results) == len(list(extremes.cases()))
    for result in results:
        if "error" in result:
            assert not FOREIGN.search(result["error"]) and "\n" not in result["error"], result
            assert re.search(r"\.(mp4|mov|mkv|webm|gif) holds no|a GIF shows", result["error"])
            assert "fps" in result["error"]  # what to do
        elif result["found"] is not None and not result["notes"]:
            wanted = [Fraction(at) for at in result["wanted"]]
            origin = wanted[0] if name == "gif" else 0  # it begins at 0
            assert len(result["found"]) == 3
            for at, found in zip(wanted, result["found"], strict=True):
                exactness = EXACTNESS.get(name, Fraction(0))
                assert abs(at - origin - Fraction(found)) <= exactness, result


def test_ratios_and_ticks_are_libavs() -> None:
    assert within_int32(Fraction(30000, 1001)) == Fraction(30000, 1001)
    assert within_int32(Fraction(1, extremes.LAST)) == Fraction(1, (1 << 31) - 1)
    assert within_int32(Fraction(extremes.LAST)) == (1 << 31) - 1
    near = within_int32(Fraction(extremes.LAST, 178956971))
    assert abs(near - 24) < Fraction(1, 10**6) and near.numerator < 1 << 31
    assert [rescaled(n, Fraction(1, 2)) for n in (-3, -1, 0, 1, 3)] == [-2, -1, 0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "said"),
    [("x.gif", "note: .gif shows each frame for 0.02 to 655.35 s"), ("x.mp4", "")],
)
def test_the_command_says_it(output: str, said: str, tmp_path: Path) -> None:
    """A rate of 1 / (2^32 - 1) died of SIGFPE in a GIF."""
    video = replace(extremes.PLAIN, frame_rate=Fraction(1, extremes.LAST))
    (tmp_path / "x.hnv").write_bytes(make_file(video, [random_segment(video, 3)]))
    run = hnv("decode", tmp_path / "x.hnv", "-o", tmp_path / output, check=False)
    if said:
        assert run.returncode == 0 and run.stderr.decode().startswith(said)
    else:
        assert ".mp4 holds no frame of 4.29e+09 s: .mkv does" in error_of(run, 2)
        assert not (tmp_path / output).exists()


@pytest.mark.parametrize("code", [0, 3, 10, 22, 23, 100, 255])
def test_rgb_of_any_colour_code(code: int) -> None:
    """RGB as of a file without the code; `test_rgb_is_ffmpegs` compares those with ffmpeg."""
    segment = random_segment(extremes.PLAIN, 3)

    def first_frame(**codes: Any) -> np.ndarray:
        with Decoder(make_file(replace(extremes.PLAIN, **codes), [segment])) as decoder:
            frame: np.ndarray = decoder[0].numpy()
            return frame

    for element in ("colour_primaries", "transfer_characteristics"):
        assert np.array_equal(first_frame(**{element: code}), first_frame()), element
    known = 9 if code == 10 else 2  # the linear part of BT.2020 with constant luminance
    found = first_frame(matrix_coefficients=code)
    assert np.array_equal(found, first_frame(matrix_coefficients=known))


@pytest.mark.parametrize("form", ["yuv440p", "yuva420p", "yuv420p16le"])
def test_sources_of_any_matrix_are_converted(form: str, ffmpeg: str, tmp_path: Path) -> None:
    """To a pixel format that a file has a code for, without a look at the matrix."""
    frames = []
    for matrix in ("unknown", "ictcp"):
        path = tmp_path / f"{matrix}.mkv"
        command: Args = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc=s=32x16:d=0.08"]
        command += ["-vf", f"format={form},setparams=colorspace={matrix}", "-c:v", "ffv1", path]
        subprocess.run(command, check=True)
        with VideoSource(path) as source:
            assert source.header.matrix_coefficients == (14 if matrix == "ictcp" else 2)
            frames.append([plane_bytes(planes) for planes in source.frames()])
    assert frames[0] == frames[1] != []


def test_formats_are_listed_once() -> None:
    """The command line's list is the one that files are written by, and it loads no library."""
    from hnervcodec.cli import all_commands

    listed = next(param for param in all_commands()["decode"].params if param.name == "name")
    assert (
        isinstance(listed.type, click.Choice)
        and tuple(listed.type.choices) == FORMATS
        and set(CONTAINERS) < set(FORMATS)
    )
    program = (
        "import sys, hnervcodec.media.output_formats\n"
        "assert not {'av', 'torch', 'numpy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
