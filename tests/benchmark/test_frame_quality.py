"""`hnv metrics` beside ffmpeg's own filters, on real encodes."""

import csv
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from running import EXCERPT, Args, error_of, hnv
from vectors import TINY_MODEL, make_file, make_video, random_segment

from hnervcodec.benchmark.frame_quality import Comparison
from hnervcodec.benchmark.vmaf import find
from hnervcodec.media.source import VideoSource


@pytest.fixture(scope="module")
def encodes(
    real_source: Path, real_file: Path, ffmpeg: str, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, Path]]:
    """(source, coded) in 4:2:0, 4:4:4 and grey, and a file of ours."""
    folder, made = tmp_path_factory.mktemp("x"), []
    for name, form, coding in (
        ("a.mp4", "yuv420p", ("-c:v", "libx264", "-crf", "25")),
        ("b.mp4", "yuv444p", ("-c:v", "libx265", "-crf", "40", "-x265-params", "log-level=none")),
        ("c.mkv", "gray", ("-vf", "gblur=1", "-c:v", "ffv1")),
    ):
        path = folder / name
        source = folder / f"source-{name}.mkv"
        even = f"scale=62:46,format={form}"
        base = [ffmpeg, "-v", "error", "-i"]
        subprocess.run([*base, real_source, "-vf", even, "-c:v", "ffv1", source], check=True)
        subprocess.run([*base, source, *coding, path], check=True)
        made.append((source, path))
    return [*made, (real_source, real_file)]


def ffmpegs(ffmpeg: str, reference: Path, distorted: Path) -> dict[str, float]:
    command: Args = [
        ffmpeg,
        "-hide_banner",
        "-i",
        distorted,
        "-i",
        reference,
        "-lavfi",
        "[0]split[a][b];[a][1]psnr;[b][1]ssim",
        "-f",
        "null",
        "-",
    ]
    log = subprocess.run(command, capture_output=True, check=True).stderr.decode()
    found = {}
    for kind in ("PSNR", "SSIM"):
        line = next(line for line in log.splitlines() if f"] {kind} " in line)
        for key, value in re.findall(r"(\w+):([\d.]+|inf)", line.split(kind, 1)[1]):
            found[f"{kind.lower()}_{key.lower()}"] = float(value)
    return found


@pytest.mark.slow
def test_agrees_with_ffmpeg(encodes: list[tuple[Path, Path]], ffmpeg: str, tmp_path: Path) -> None:
    greys = 0
    for source, coded in encodes:
        table, picture = tmp_path / "frames.csv", tmp_path / "frames.png"
        options = ("--csv", table, "--plot", picture, "--json")
        ours = json.loads(hnv("metrics", source, coded, *options).stdout)
        readable = coded
        if coded.suffix == ".hnv":
            readable = tmp_path / "decoded.y4m"
            hnv("decode", coded, "-o", readable)
        theirs = ffmpegs(ffmpeg, source, readable)
        assert ours["psnr_y"] == pytest.approx(theirs["psnr_y"], abs=0.01)
        assert ours["ssim_y"] == pytest.approx(theirs["ssim_y"], abs=0.0005)
        if ours["psnr_cb"] is None:
            greys += 1
            assert ours["psnr_611"] == ours["psnr_y"]
        else:
            assert ours["psnr_cb"] == pytest.approx(theirs["psnr_u"], abs=0.01)
            assert ours["psnr_cr"] == pytest.approx(theirs["psnr_v"], abs=0.01)
            assert ours["psnr_average"] == pytest.approx(theirs["psnr_average"], abs=0.01)
            assert ours["ssim_all"] == pytest.approx(theirs["ssim_all"], abs=0.0005)
            parts = (6 * ours["psnr_y"] + ours["psnr_cb"] + ours["psnr_cr"]) / 8
            assert ours["psnr_611"] == pytest.approx(parts, abs=1e-9)
        rows = list(csv.DictReader(table.open()))
        assert len(rows) == len(ours["frames"]) == 20 and rows[7]["frame"] == "7"
        assert float(rows[7]["psnr_y"]) == ours["frames"][7]["psnr_y"]
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert greys == 1


@pytest.mark.slow
def test_a_file_of_ours_and_itself(real_file: Path, real_source: Path) -> None:
    text = hnv("metrics", real_source, real_file).stdout.decode()
    pattern = r"PSNR, dB  y \d\d\.\d\d  cb \d\d\.\d\d  cr [\d.]+  average [\d.]+  6:1:1 "
    assert re.match(pattern, text)
    ours = json.loads(hnv("metrics", real_file, real_file, "--limit", 3, "--json").stdout)
    assert ours["psnr_y"] is None and ours["ssim_all"] == 1 and len(ours["frames"]) == 3
    rows = hnv("metrics", real_source, real_file, "--limit", 2, "--csv", "-").stdout
    assert rows.count(b"\n") == 3


def test_the_whole_is_of_the_mean_error() -> None:
    with VideoSource(EXCERPT, limit=3) as source:
        header, frames = source.header, list(source.frames())
    comparison = Comparison(header)
    for made in frames[1:]:
        comparison.add(frames[0], made)
    errors = [np.square(frames[0][0].astype(float) - planes[0]).mean() for planes in frames[1:]]
    expected = [10 * np.log10(255**2 / error) for error in (*errors, np.mean(errors))]
    found = [quality.psnr_y for quality in (*comparison.frames, comparison.whole)]
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def with_vmaf(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose ffmpeg has libvmaf."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "ffmpeg").symlink_to(ffmpeg)
    if find(str(folder)) is None:
        pytest.skip("no ffmpeg with libvmaf")
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_vmaf_is_ffmpegs(
    encodes: list[tuple[Path, Path]], ffmpeg: str, with_vmaf: dict[str, str], tmp_path: Path
) -> None:
    source, coded = encodes[0]
    table = tmp_path / "frames.csv"
    text = hnv("metrics", source, coded, "--vmaf", "--csv", table, env=with_vmaf).stdout.decode()
    log = tmp_path / "log.json"
    graph = f"libvmaf=log_fmt=json:log_path={log}"
    command: Args = [ffmpeg, "-v", "error", "-i", coded, "-i", source, "-lavfi", graph]
    subprocess.run([*command, "-f", "null", "-"], check=True)
    theirs = json.loads(log.read_text())
    wanted = [frame["metrics"]["vmaf"] for frame in theirs["frames"]]
    found = [float(row["vmaf"]) for row in csv.DictReader(table.open())]
    assert found == pytest.approx(wanted, abs=1e-3) and 20 < min(found) < max(found) < 99
    mean = theirs["pooled_metrics"]["vmaf"]["mean"]
    assert text.splitlines()[-1] == f"VMAF      {mean:.2f}"


@pytest.mark.slow
def test_rgb(rgb_source: Path, ffmpeg: str, with_vmaf: dict[str, str], tmp_path: Path) -> None:
    """Of its own planes, and nothing that is of luma."""
    coded, table, picture = (tmp_path / name for name in ("x.mkv", "frames.csv", "frames.png"))
    blur = ("-vf", "gblur=1,format=gbrp", "-c:v", "ffv1")
    subprocess.run([ffmpeg, "-v", "error", "-i", rgb_source, *blur, coded], check=True)
    options = ("--json", "--csv", table, "--plot", picture)
    ours = json.loads(hnv("metrics", rgb_source, coded, *options, env=with_vmaf).stdout)
    theirs = ffmpegs(ffmpeg, rgb_source, coded)
    frames = ours.pop("frames")
    assert set(ours) == {
        *(f"{kind}_{plane}" for kind in ("psnr", "ssim") for plane in "gbr"),
        "psnr_average",
        "ssim_all",
    }
    for plane in "gbr":
        assert ours[f"psnr_{plane}"] == pytest.approx(theirs[f"psnr_{plane}"], abs=0.01)
    assert len(frames) == 8 and set(frames[0]) == {"frame", *ours}
    assert "psnr_g" in table.read_text() and picture.exists()
    text = hnv("metrics", rgb_source, coded, env=with_vmaf).stdout.decode()
    assert re.match(r"PSNR, dB  g [\d.]+  b [\d.]+  r [\d.]+  average [\d.]+\nSSIM ", text)
    failed = hnv("metrics", rgb_source, coded, "--vmaf", env=with_vmaf, check=False)
    assert "RGB" in error_of(failed, 2)
    yuv = tmp_path / "yuv.mkv"
    form = ("-vf", "format=yuv444p", "-c:v", "ffv1")
    subprocess.run([ffmpeg, "-v", "error", "-i", rgb_source, *form, yuv], check=True)
    run = hnv("metrics", rgb_source, yuv, check=False)
    assert "differ in format: RGB and 4:4:4" in error_of(run, 2)


@pytest.mark.slow
def test_vmaf_of_what_it_cannot_judge(with_vmaf: dict[str, str], small_file: Path) -> None:
    """libvmaf dies of frames of 22x14."""
    run = hnv("metrics", small_file, small_file, env=with_vmaf)
    assert run.stderr.startswith(b"note: ffmpeg could not") and b"VMAF" not in run.stdout
    failed = hnv("metrics", small_file, small_file, "--vmaf", env=with_vmaf, check=False)
    assert "could not compute VMAF" in error_of(failed, 1)


def test_without_libvmaf(small_file: Path, tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path)}
    run = hnv("metrics", small_file, small_file, env=nothing)
    assert run.stderr == b"" and b"VMAF" not in run.stdout
    failed = hnv("metrics", small_file, small_file, "--vmaf", env=nothing, check=False)
    assert "ffmpeg with libvmaf on PATH" in error_of(failed, 2)


@pytest.mark.slow
def test_refusals(
    real_file: Path, encodes: list[tuple[Path, Path]], real_source: Path, tmp_path: Path
) -> None:
    assert "width" in error_of(hnv("metrics", real_source, encodes[0][1], check=False), 2)
    error_of(hnv("metrics", real_source, tmp_path / "none.mp4", check=False), 6)
    damaged = bytearray(real_file.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    (tmp_path / "damaged.hnv").write_bytes(damaged)
    for pair in ((real_file, tmp_path / "damaged.hnv"), (tmp_path / "damaged.hnv", real_file)):
        said = error_of(hnv("metrics", *pair, check=False), 3)
        assert said.startswith(f"hnv: {tmp_path / 'damaged.hnv'}: ") and said.count(".hnv") == 1
    short = tmp_path / "short.y4m"
    hnv("decode", real_file, "--frames", "0-9", "-o", short, "-q")
    assert "number of frames" in error_of(hnv("metrics", real_source, short, check=False), 2)
    hnv("metrics", real_source, short, "--limit", 10)


def test_frames_smaller_than_a_window(tmp_path: Path) -> None:
    """They have no SSIM nor MS-SSIM, and cannot be tuned for it."""
    video = make_video(8, 6)
    (tmp_path / "x.hnv").write_bytes(make_file(video, [random_segment(video, 2, model=TINY_MODEL)]))
    said = hnv("metrics", tmp_path / "x.hnv", tmp_path / "x.hnv").stdout.decode()
    assert "PSNR" in said and "SSIM" not in said
    run = hnv("decode", tmp_path / "x.hnv", "-o", tmp_path / "x.mkv", "-q")
    run = hnv("encode", tmp_path / "x.mkv", "-o", "-", "--bpp", 9, "--tune", "ssim", check=False)
    assert "--tune ssim compares windows of 11x11, and these frames are 8x6" in error_of(run, 2)


def test_planes_smaller_than_a_window(tmp_path: Path) -> None:
    """Of 14x14 in 4:2:0 chroma has no SSIM, luma has."""
    video = make_video(14, 14)
    (tmp_path / "x.hnv").write_bytes(make_file(video, [random_segment(video, 1, model=TINY_MODEL)]))
    said = hnv("metrics", tmp_path / "x.hnv", tmp_path / "x.hnv").stdout.decode().splitlines()
    assert [line.split() for line in said if line.startswith("SSIM")] == [["SSIM", "y", "1.0000"]]
