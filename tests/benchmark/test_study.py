"""`hnv compare`: rates are kept, results are those of the codecs, nothing is measured twice."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from running import EXCERPT, Args, error_of, heed_interrupts, hnv

from hnervcodec.benchmark import other_codecs
from hnervcodec.benchmark.bd_rate import bd_rate
from hnervcodec.errors import HnervError, UsageError
from hnervcodec.media.source import VideoSource
from hnervcodec.metrics.psnr import PlaneError
from hnervcodec.system.isolated import run_isolated

RATES = (0.6, 0.9, 1.4)
OPTIONS = ("--bpp", "0.6,0.9,1.4", "--preset", "ultrafast")


@pytest.fixture(scope="module")
def clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 real frames of 64x48, lossless."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    command: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, "-vf", "scale=64:48:flags=area"]
    subprocess.run([*command, "-frames:v", "12", "-c:v", "ffv1", path], check=True)
    return path


@pytest.fixture(scope="module")
def folder(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything compared."""
    folder = tmp_path_factory.mktemp("compare") / "results"
    run = hnv("compare", clip, "-o", folder, *OPTIONS)
    log = run.stderr.decode()
    assert "1/12  hnv ultrafast, 0.6 bpp" in log and "svtav1 5" in log
    table = run.stdout.decode().splitlines()
    assert table[0] == "clip.mkv: 12 frames of 64x48" and len(table) == 21
    assert table[16].split() == ["hnv", "x264", "x265", "svtav1"]
    return folder


@pytest.mark.slow
def test_every_rate_is_kept(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "points.csv").open()))
    assert len(rows) == 12 and {row["codec"] for row in rows} == {"hnv", *other_codecs.CODECS}
    for row in rows:
        assert 8 * int(row["bytes"]) / (12 * 64 * 48) <= float(row["rate"])
    for codec in ("hnv", *other_codecs.CODECS):
        line = sorted((r for r in rows if r["codec"] == codec), key=lambda r: float(r["rate"]))
        assert [float(row["rate"]) for row in line] == list(RATES)
        qualities = [float(row["psnr_611"]) for row in line]
        assert qualities == sorted(qualities)


def test_results_are_the_codecs(clip: Path, folder: Path) -> None:
    """The same stream again; half a step better would have been too large."""
    rows = list(csv.DictReader((folder / "points.csv").open()))
    with VideoSource(clip) as source:
        header, frames = source.header, list(source.frames())
    for row in (row for row in rows if row["codec"] == "x264"):
        options = {"crf": row["crf"], "preset": "veryslow"}
        coded = other_codecs.code("libx264", header, frames, options)
        assert coded.bytes == int(row["bytes"])
        error = PlaneError(255)
        for pair in zip(frames, coded.decoded, strict=True):
            error.add(*pair)
        assert error.weighted == pytest.approx(float(row["psnr_611"]), abs=1e-3)
        options["crf"] = f"{float(row['crf']) - other_codecs.CODECS['x264'].step:.3f}"
        finer = other_codecs.code("libx264", header, frames, options)
        assert 8 * finer.bytes / (12 * 64 * 48) > float(row["rate"])


def test_threads_cost_no_bytes() -> None:
    with VideoSource(EXCERPT, limit=12) as source:
        header, frames = source.header, list(source.frames())
    one, three = (
        other_codecs.code("libx264", header, frames, {"crf": "33", "threads": threads}).bytes
        for threads in ("1", "3")
    )
    assert three < 1.01 * one


def dies(marker: Path, *, always: bool) -> str:
    if always or not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return "alive"


def dies_while_it_answers() -> bytes:
    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGSEGV)).start()
    return bytes(1 << 28)


def fails() -> None:
    class Local(Exception):
        pass

    raise Local("nobody else knows this class")


def test_a_crash_of_an_encoder_is_not_ours(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    assert run_isolated("x265", dies, marker, always=False) == "alive"
    with pytest.raises(HnervError, match="x265 crashed twice"):
        run_isolated("x265", dies, marker, always=True)
    with pytest.raises(HnervError, match="x265 crashed twice"):
        run_isolated("x265", dies_while_it_answers)
    with pytest.raises(HnervError, match="Local: nobody else knows this class"):
        run_isolated("x265", fails)
    assert run_isolated("x265", dies, marker, always=False) == "alive"


def test_facts_and_picture(folder: Path) -> None:
    facts = json.loads((folder / "compare.json").read_text())
    assert facts["source"] == "clip.mkv" and len(facts["points"]) == 12
    found = facts["bd_rate_percent"]
    assert found["x264"]["x265"] == pytest.approx(100 * (1 / (1 + found["x265"]["x264"] / 100) - 1))
    lines = {
        codec: [(p["bytes"], p["psnr_611"]) for p in facts["points"] if p["codec"] == codec]
        for codec in ("x264", "x265")
    }
    assert found["x264"]["x265"] == pytest.approx(bd_rate(lines["x264"], lines["x265"]))
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in folder.iterdir()} == {"points.csv", "compare.json", "compare.png"}


def test_bd_rate() -> None:
    curve = [(1000, 30.0), (2000, 33.0), (4000, 36.5), (8000, 39.0)]
    double = [(2 * size, psnr) for size, psnr in curve]
    assert bd_rate(curve, double) == pytest.approx(100)
    assert bd_rate(double, curve) == pytest.approx(-50)
    assert math.isnan(bd_rate(curve, [(size, psnr + 20) for size, psnr in curve]))
    assert math.isnan(bd_rate(curve, curve[:2]))
    assert math.isnan(bd_rate(curve, [*curve, (9000, math.inf)]))
    assert math.isnan(bd_rate(curve, [*curve, (9000, 38.0)]))


@pytest.mark.slow
def test_interrupted_it_goes_on(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    rates = "0.5,0.6,0.7,0.8,0.9,1"
    arguments = ["compare", clip, "-o", folder, "--codecs", "x264,x265", "--bpp", rates]
    run = subprocess.Popen(
        [sys.executable, "-m", "hnervcodec", *map(str, arguments)],
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 120
    while not (folder / "points.csv").exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, log = run.communicate(timeout=60)
    assert run.returncode == 130
    assert log.decode().splitlines()[-1].endswith("the same command goes on from here")
    assert [path.name for path in folder.iterdir()] == ["points.csv"]
    before = (folder / "points.csv").read_text()
    hnv(*arguments)
    after = (folder / "points.csv").read_text()
    assert after.startswith(before) and after.count("\n") == 13


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--codecs", "x264,theora"), 2, "unknown codec 'theora'"),
        (("--bpp", "0.1,often"), 2, "'often' is not a rate"),
        (("--codecs", "hnv", "--bpp", "0.2"), 2, "smallest network needs"),
        (("-o", "none/results", "--codecs", "x264"), 7, "none/results: No such file"),
        (("-o", ".", "--codecs", "x264"), 2, "points.csv is no table of Points"),
    ],
)
@pytest.mark.slow
def test_refusals(
    clip: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "text").write_text("a file")
    (tmp_path / "points.csv").write_text("a,b\n1,2\n")
    folder = () if "-o" in arguments else ("-o", "results")
    run = hnv("compare", clip, *folder, *arguments, "-q", check=False, cwd=tmp_path)
    assert message in error_of(run, code)
    assert {path.name for path in tmp_path.iterdir()} == {"text", "points.csv"}


def test_rgb_is_refused(rgb_source: Path, tmp_path: Path) -> None:
    run = hnv("compare", rgb_source, "-o", tmp_path / "x", "--codecs", "hnv", check=False)
    assert "is RGB" in error_of(run, 2) and not (tmp_path / "x").exists()
    with VideoSource(rgb_source) as source:
        header, frames = source.header, list(source.frames())
    with pytest.raises(UsageError, match="libx264 cannot code 64x48 gbrp"):
        other_codecs.code("libx264", header, frames, {"crf": "20"})


def test_frames_that_a_codec_cannot_code(real_source: Path, tmp_path: Path) -> None:
    run = hnv("compare", real_source, "-o", tmp_path / "x", "--codecs", "x264", check=False)
    assert "x264 cannot code 63x47 yuv420p" in error_of(run, 2)
    assert not (tmp_path / "x").exists()


def test_a_codec_that_is_not_there(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoSource(clip) as source:
        header, frame = source.header, next(source.frames())
    monkeypatch.setattr("av.codecs_available", {"libx264"})
    other_codecs.check("x264", header, frame)
    with pytest.raises(UsageError, match="PyAV has no libsvtav1 here"):
        other_codecs.check("svtav1", header, frame)


@pytest.mark.slow
def test_without_the_optional_packages(folder: Path, clip: Path, tmp_path: Path) -> None:
    """Nothing is measured again, as the table has it all."""
    other = tmp_path / "results"
    other.mkdir()
    (other / "points.csv").write_bytes((folder / "points.csv").read_bytes())
    missing = "import sys; sys.modules.update(bjontegaard=None, matplotlib=None); "
    code = missing + "from hnervcodec.cli import main; main()"
    command: Args = [sys.executable, "-c", code, "compare", clip, "-o", other, *OPTIONS]
    run = subprocess.run(command, capture_output=True)
    assert run.returncode == 0 and run.stdout.count(b"\n") == 14
    first, second = run.stderr.decode().splitlines()
    assert "pip install hnervcodec[compare]" in first and "matplotlib" in second
    assert not (other / "compare.png").exists() and (other / "compare.json").exists()
