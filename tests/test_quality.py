"""`hnv metrics` beside ffmpeg's own filters, on real encodes."""

import csv
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import hnv
from test_cli import error_of

from hnervcodec.planes import Planes
from hnervcodec.quality import compare, summary
from hnervcodec.syntax import VideoHeader
from hnervcodec.video import VideoSource


@pytest.fixture(scope="module")
def encodes(real_source: Path, ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = []
    for name, form, coding in (
        ("a.mp4", "yuv420p", ("-c:v", "libx264", "-crf", "25")),
        ("b.mp4", "yuv444p", ("-c:v", "libx264", "-crf", "40")),
        ("c.mkv", "gray", ("-vf", "gblur=1", "-c:v", "ffv1")),
    ):
        path = tmp_path_factory.mktemp("x") / name
        source = path.with_name(f"source-{name}.mkv")
        even = f"scale=62:46,format={form}"
        base = [ffmpeg, "-v", "error", "-i"]
        subprocess.run([*base, real_source, "-vf", even, "-c:v", "ffv1", source], check=True)
        subprocess.run([*base, source, *coding, path], check=True)
        made += [source, path]
    return made


def ffmpegs(ffmpeg: str, reference: Path, distorted: Path) -> dict[str, float]:
    command = [ffmpeg, "-hide_banner", "-i", distorted, "-i", reference, "-lavfi",
               "[0]split[a][b];[a][1]psnr;[b][1]ssim", "-f", "null", "-"]  # fmt: skip
    log = subprocess.run(command, capture_output=True, check=True).stderr.decode()
    found = {}
    for kind in ("PSNR", "SSIM"):
        line = next(line for line in log.splitlines() if f"] {kind} " in line)
        for key, value in re.findall(r"(\w+):([\d.]+|inf)", line.split(kind, 1)[1]):
            found[f"{kind.lower()}_{key.lower()}"] = float(value)
    return found


def test_agrees_with_ffmpeg(encodes: list[Path], ffmpeg: str, tmp_path: Path) -> None:
    for source, coded in zip(encodes[::2], encodes[1::2], strict=True):
        table, picture = tmp_path / "frames.csv", tmp_path / "frames.png"
        options = ("--csv", table, "--plot", picture, "--json")
        ours = json.loads(hnv("metrics", source, coded, *options).stdout)
        theirs = ffmpegs(ffmpeg, source, coded)
        grey = ours["psnr_cb"] is None
        assert ours["psnr_y"] == pytest.approx(theirs["psnr_y"], abs=0.01)
        assert ours["ssim_y"] == pytest.approx(theirs["ssim_y"], abs=0.0005)
        if not grey:
            assert ours["psnr_cb"] == pytest.approx(theirs["psnr_u"], abs=0.01)
            assert ours["psnr_cr"] == pytest.approx(theirs["psnr_v"], abs=0.01)
            assert ours["psnr_average"] == pytest.approx(theirs["psnr_average"], abs=0.01)
            assert ours["ssim_all"] == pytest.approx(theirs["ssim_all"], abs=0.0005)
        rows = list(csv.DictReader(table.open()))
        assert len(rows) == len(ours["frames"]) == 20
        assert float(rows[7]["psnr_y"]) == ours["frames"][7]["psnr_y"]
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert grey  # one of them was


def test_a_file_of_ours_and_itself(real_file: Path, real_source: Path) -> None:
    text = hnv("metrics", real_source, real_file).stdout.decode()
    assert re.match(r"PSNR, dB  y \d\d\.\d\d  cb \d\d\.\d\d  cr [\d.]+  average [\d.]+  611", text)
    ours = json.loads(hnv("metrics", real_file, real_file, "--limit", 3, "--json").stdout)
    assert ours["psnr_y"] is None and ours["ssim_all"] == 1 and len(ours["frames"]) == 3
    rows = hnv("metrics", real_source, real_file, "--limit", 2, "--csv", "-").stdout
    assert rows.count(b"\n") == 3


def test_summary_is_of_the_mean_error() -> None:
    with VideoSource(Path(__file__).parent / "data/bunny.mp4", limit=3) as source:
        header, frames = source.header, list(source.frames())
    pairs: list[tuple[Planes, Planes]] = [(frames[0], frames[1]), (frames[0], frames[2])]
    whole = summary(header, list(compare(header, pairs)))
    errors = [np.square(a[0].astype(float) - b[0]).mean() for a, b in pairs]
    assert whole["psnr_y"] == pytest.approx(10 * np.log10(255**2 / np.mean(errors)), abs=1e-4)
    assert isinstance(header, VideoHeader)


def test_refusals(real_file: Path, encodes: list[Path], real_source: Path, tmp_path: Path) -> None:
    assert "width" in error_of(hnv("metrics", real_source, encodes[1], check=False), 2)
    error_of(hnv("metrics", real_source, tmp_path / "none.mp4", check=False), 6)
    short = tmp_path / "short.y4m"
    hnv("decode", real_file, "--frames", "0-9", "-o", short, "-q")
    assert "number of frames" in error_of(hnv("metrics", real_source, short, check=False), 2)
    hnv("metrics", real_source, short, "--limit", 10)
