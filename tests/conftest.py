"""Fixtures that many tests share: a tiny file and real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from running import EXCERPT, Args, hnv
from vectors import make_file, make_video, random_segment


def pytest_configure(config: pytest.Config) -> None:
    """Each of several test processes gets a processor of its own, and with it one thread, in the
    commands that it starts too: threads that wait for each other take three times the time."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[int(worker.removeprefix("gw")) % len(processors)]})


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """Two segments of random content, 3 + 2 frames of 22x14, about 1 kB."""
    video = make_video()
    first = random_segment(video, 3, seed=1)
    second = random_segment(video, 2, seed=2, first_frame=3)
    path = tmp_path / "small.hnv"
    path.write_bytes(make_file(video, [first, second]))
    return path


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    import imageio_ffmpeg

    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path


@pytest.fixture(scope="session")
def real_source(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """20 real frames at 63x47 (odd on purpose), lossless."""
    path = tmp_path_factory.mktemp("clips") / "bunny63.mkv"
    command: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, "-vf", "scale=63:47:flags=area"]
    subprocess.run([*command, "-frames:v", "20", "-c:v", "ffv1", path], check=True)
    return path


@pytest.fixture(scope="session")
def rgb_source(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """8 real frames at 64x48 in RGB, lossless."""
    path = tmp_path_factory.mktemp("clips") / "rgb.mkv"
    command: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, "-vf", "scale=64:48,format=gbrp"]
    subprocess.run([*command, "-frames:v", "8", "-c:v", "ffv1", path], check=True)
    return path


@pytest.fixture(scope="session")
def real_file(tmp_path_factory: pytest.TempPathFactory, real_source: Path) -> Path:
    """`real_source` encoded in two segments."""
    path = tmp_path_factory.mktemp("coded") / "bunny63.hnv"
    hnv(
        "encode",
        real_source,
        "-o",
        path,
        "--bpp",
        "0.9",
        "--preset",
        "ultrafast",
        "--segment",
        "12",
    )
    return path
