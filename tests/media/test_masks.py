"""Masks: read from whatever holds them, and nothing of what they hide reaches the file."""

import json
import os
import pty
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import Args, error_of, hnv
from vectors import make_video

from hnervcodec.errors import SourceError
from hnervcodec.media.masks import fill, read_masks
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import Planes


def picture(path: Path, size: tuple[int, int], box: tuple[int, int, int, int], mode: str) -> Path:
    image = Image.new(mode, size)
    image.paste("white" if mode != "L" else 255, box)
    image.save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_picture(mode: str, tmp_path: Path) -> None:
    video = make_video(63, 47)
    path = picture(tmp_path / "m.png", (63, 47), (61, 3, 63, 6), mode)
    first, second = islice(read_masks(path, video), 2)
    luma = np.zeros((47, 63), bool)
    luma[3:6, 61:63] = True
    chroma = np.zeros((24, 32), bool)
    chroma[1:3, 30:32] = True
    for mask in (first, second):
        assert [plane.shape for plane in mask] == [(47, 63), (24, 32), (24, 32)]
        assert (mask[0] == luma).all() and (mask[1] == chroma).all() and (mask[2] == chroma).all()


def test_boxes(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(
        json.dumps(
            [
                {"x": 0, "y": 0, "width": 2, "height": 2},
                {"x": 20, "y": 10, "width": 500, "height": 2, "first": 4, "last": 5},
            ]
        )
    )
    counts = [int(m[0].sum()) for m in islice(read_masks(path, make_video(), skip=1, every=3), 3)]
    assert counts == [4, 8, 4]  # of frames 1, 4 and 7
    for text in (
        "[",
        "{}",
        "[3]",
        '[{"x": 0}]',
        '[{"x": 0, "y": 0, "width": 1.5, "height": 2}]',
        '[{"x": 0, "y": 0, "width": 0, "height": 2}]',
        "[" * 100_000,
        '[{"x": -1, "y": 0, "width": 1, "height": 2}]',
        '[{"x": 0, "y": 0, "width": 1, "height": 2, "depth": 1}]',
    ):
        path.write_text(text)
        with pytest.raises(SourceError, match=r"m\.json"):
            next(read_masks(path, make_video()))


def test_video_of_masks(real_source: Path, tmp_path: Path) -> None:
    with VideoSource(real_source) as source:
        header = source.header
        lumas = [planes[0] > 127.5 for planes in source.frames()]
    masks = read_masks(real_source, header, skip=2, every=5)
    for n in (2, 7, 12, 17):
        assert (next(masks)[0] == lumas[n]).all()
    with pytest.raises(SourceError, match="end at frame 19"):
        next(masks)
    with pytest.raises(SourceError, match="63x47, the video 22x14"):
        next(read_masks(real_source, make_video()))
    with pytest.raises(SourceError):
        next(read_masks(tmp_path / "absent.png", header))


def test_fill_takes_what_other_frames_show() -> None:
    frames: list[Planes] = [(np.full((2, 2), n, np.uint8),) for n in (10, 20, 90)]
    masks: list[Planes] = [(np.zeros((2, 2), bool),) for _ in frames]
    masks[2][0][0, 0] = True
    for mask in masks:
        mask[0][1, 1] = True
    filled = [planes[0].tolist() for planes in fill(frames, masks, 128)]
    mean = round((10 * 3 + 20 * 3 + 90 * 2) / 8)
    assert filled == [[[10, 10], [10, mean]], [[20, 20], [20, mean]], [[15, 90], [90, mean]]]
    for mask in masks:
        mask[0][...] = True
    with pytest.raises(SourceError, match="nothing"):
        fill(frames, masks, 128)


@pytest.fixture(scope="module")
def damaged(real_source: Path, ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The clip with a black and with a white box from (20, 12) to (31, 21)."""
    made = []
    for colour in ("black", "white"):
        path = tmp_path_factory.mktemp("damaged") / f"{colour}.mkv"
        box = f"drawbox=x=20:y=12:w=12:h=10:c={colour}:t=fill"
        command: Args = [ffmpeg, "-v", "error", "-i", real_source, "-vf", box, "-c:v", "ffv1", path]
        subprocess.run(command, check=True)
        made.append(path)
    return made


@pytest.mark.slow
def test_nothing_of_what_is_masked_is_coded(damaged: list[Path], tmp_path: Path) -> None:
    mask = picture(tmp_path / "m.png", (63, 47), (20, 12, 32, 22), "L")
    coded = []
    for path in damaged:
        run = hnv(
            "encode",
            path,
            "-o",
            "-",
            "--mask",
            mask,
            "--bpp",
            0.9,
            "--limit",
            6,
            "-q",
            "--preset",
            "ultrafast",
        )
        coded.append(run.stdout)
    assert coded[0] == coded[1]


@pytest.mark.slow
def test_inpaint(damaged: list[Path], real_source: Path, tmp_path: Path) -> None:
    mask = picture(tmp_path / "m.png", (63, 47), (20, 12, 32, 22), "L")
    output = tmp_path / "out.mkv"
    hnv("inpaint", damaged[1], "--mask", mask, "-o", output, "--bpp", 0.9, "--preset", "ultrafast")
    with (
        VideoSource(output) as restored,
        VideoSource(damaged[1]) as white,
        VideoSource(real_source) as clean,
    ):
        errors = []
        for a, b, c in zip(restored.frames(), white.frames(), clean.frames(), strict=True):
            hole = next(read_masks(mask, clean.header))
            for made, given, hidden in zip(a, b, hole, strict=True):
                assert (made[~hidden] == given[~hidden]).all()
            errors.append(
                [np.abs(x[0][hole[0]].astype(int) - c[0][hole[0]]).mean() for x in (a, b)]
            )
    made_error, given_error = np.mean(errors, 0)
    assert made_error < given_error / 3


@pytest.mark.slow
def test_inpaint_refuses(damaged: list[Path], tmp_path: Path) -> None:
    small = picture(tmp_path / "m.png", (20, 20), (0, 0, 3, 3), "L")
    everything = picture(tmp_path / "all.png", (63, 47), (0, 0, 63, 47), "L")
    for mask, code in ((small, 6), (everything, 6), (tmp_path / "none.png", 6)):
        run = hnv(
            "inpaint",
            damaged[0],
            "--mask",
            mask,
            "-o",
            tmp_path / "x.mkv",
            "-q",
            "--bpp",
            0.9,
            "--preset",
            "ultrafast",
            check=False,
        )
        error_of(run, code)
    error_of(hnv("inpaint", "-", "--mask", small, "-o", tmp_path / "x.mkv", check=False), 2)
    assert not list(tmp_path.glob("*x.mkv*"))


@pytest.mark.slow
def test_a_mask_that_masks_nothing_is_noted(damaged: list[Path], tmp_path: Path) -> None:
    boxes = tmp_path / "late.json"
    boxes.write_text(json.dumps([{"x": 2, "y": 2, "width": 8, "height": 8, "first": 20}]))
    for limit, noted in ((6, True), (None, False)):
        if not noted:
            boxes.write_text(boxes.read_text().replace("20", "19"))
        run = hnv(
            "encode",
            damaged[0],
            "--mask",
            boxes,
            "--dry-run",
            "--bpp",
            0.9,
            "--preset",
            "ultrafast",
            *(["--limit", limit] if limit else []),
        )
        assert (f"note: {boxes} masks nothing in these frames" in run.stderr.decode()) is noted


@pytest.mark.slow
def test_inpaint_to_pictures(damaged: list[Path], tmp_path: Path) -> None:
    mask = picture(tmp_path / "m.png", (63, 47), (20, 12, 32, 22), "L")
    options = ("--mask", mask, "--preset", "ultrafast", "--bpp", 0.9, "-q")
    run = hnv("inpaint", damaged[0], "-o", tmp_path / "x.png", *options, check=False)
    assert "one PNG" in error_of(run, 2)
    run = hnv("inpaint", damaged[0], "-o", tmp_path / "no/%05d.png", *options, check=False)
    assert "no such folder" in error_of(run, 7)
    (tmp_path / "00000.png").write_text("mine")
    run = hnv("inpaint", damaged[0], "-o", tmp_path / "%05d.png", *options, "-n", check=False)
    assert "exists" in error_of(run, 2)
    hnv("inpaint", damaged[0], "-o", tmp_path / "%05d.png", *options, "-y")
    assert len(list(tmp_path.glob("0*.png"))) == 20


@pytest.mark.parametrize("name", ["out.mkv", "%05d.png"])
@pytest.mark.slow
def test_inpaint_asks_once(name: str, damaged: list[Path], tmp_path: Path) -> None:
    mask = picture(tmp_path / "m.png", (63, 47), (20, 12, 32, 22), "L")
    existing = tmp_path / name.replace("%05d", "00000")
    existing.write_text("mine")
    terminal, side = pty.openpty()
    command: Args = [
        sys.executable,
        "-m",
        "hnervcodec",
        "inpaint",
        damaged[0],
        "-o",
        tmp_path / name,
        "--mask",
        mask,
        "--preset",
        "ultrafast",
        "--bpp",
        "0.9",
        "-q",
    ]
    run = subprocess.Popen(command, stdin=side, stderr=side)
    os.close(side)
    os.write(terminal, b"y\nn\n")
    assert run.wait(timeout=120) == 0
    assert os.read(terminal, 10_000).count(b"Overwrite?") == 1
    os.close(terminal)
    assert existing.read_bytes() != b"mine"


def test_a_mask_video_that_is_too_short_is_refused_at_once(
    real_source: Path, real_file: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.mkv"
    hnv("decode", real_file, "--frames", "0-9", "-o", short, "-q")
    output = tmp_path / "x.hnv"
    run = hnv("encode", real_source, "--mask", short, "--bpp", 0.9, "-o", output, check=False)
    assert b"masks end at frame 9" in run.stderr and b"segment 1" not in run.stderr
    assert run.returncode == 6 and not output.exists()


@pytest.mark.slow
def test_frames_that_are_wholly_masked(real_source: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('[{"x": 0, "y": 0, "width": 63, "height": 47, "first": 3, "last": 9}]')
    for tune in ("balanced", "psnr", "ssim"):
        hnv(
            "encode",
            real_source,
            "-o",
            tmp_path / "x.hnv",
            "--mask",
            path,
            "--bpp",
            0.9,
            "-y",
            "--preset",
            "ultrafast",
            "--tune",
            tune,
        )
