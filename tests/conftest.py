"""Shared material: random segments, a tiny real file, and ways to run the command."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hnervcodec import container, profiles, segment
from hnervcodec.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream import crc32
from hnervcodec.planes import plane_bytes, unpack
from hnervcodec.segment import QuantizedLayer, QuantizedSegment
from hnervcodec.syntax import Requant, VideoHeader

ROOT = Path(__file__).resolve().parent.parent
EXCERPT = ROOT / "tests/data/bunny.mp4"
LEVEL = profiles.LEVELS[10]
SMALL_MODEL = ModelConfig(3, 5, (StageConfig(3, 1, 6, 0), StageConfig(2, 3, 4, 2)), 3)


def make_video(width: int = 22, height: int = 14, chroma: int = 1, depth: int = 8) -> VideoHeader:
    return VideoHeader(width, height, chroma, Fraction(30000, 1001), depth)


def random_segment(
    video: VideoHeader, frames: int, seed: int = 0, model: ModelConfig = SMALL_MODEL,
    first_frame: int = 0, weight: int = 20,
) -> QuantizedSegment:  # fmt: skip
    """A valid segment of random levels, with frame checksums from the float64 path."""
    from hnervcodec.synthesis import Synthesis

    rng = np.random.default_rng(seed)
    specs = video.layers(model)
    layers = []
    for spec in specs:
        head = spec.kind == "head"
        limit = min(weight, int(2**23.5 / 255 / (spec.weights // spec.weight_shape[0])))
        requant = Requant(
            bias_shift=3,
            shift=2 if head else int(rng.integers(0, 6)),
            multiplier=255 * 16 if head else int(rng.integers(200, 4000)),
            gain=0 if head else int(rng.integers(500, 4000)),
            zero_point=int(rng.integers(0, 60)) if spec.kind in ("stem", "up") else 0,
        )
        bias = rng.integers(-300, 300, spec.out_channels) + (1000 if head else 0)
        levels = rng.integers(-limit, limit + 1, spec.weight_shape)
        layers.append(QuantizedLayer(levels.astype(np.int32), bias.astype(np.int32), requant))
    shape = (frames, specs[0].in_channels, specs[0].height, specs[0].width)
    result = QuantizedSegment(
        first_frame, model, specs, tuple(layers),
        rng.integers(100, 156, shape).astype(np.uint8), 128, np.zeros(frames, np.uint32),
    )  # fmt: skip
    packed = Synthesis(result, video, path="float64").packed(range(frames))
    crcs = [
        crc32(plane_bytes(unpack(p, video.chroma_format, video.width, video.height)))
        for p in packed
    ]
    return replace(result, frame_crcs=np.array(crcs, np.uint32))


def make_file(path: Path, video: VideoHeader, segments: list[QuantizedSegment]) -> Path:
    with open(path, "wb") as file:
        writer = container.Writer(file, video, LEVEL)
        for part in segments:
            writer.segment(segment.write(part), part.frame_count)
        writer.finish()
    return path


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """Two segments of random content, 3 + 2 frames of 22x14, about 1 kB."""
    video = make_video()
    first = random_segment(video, 3, seed=1)
    second = random_segment(video, 2, seed=2, first_frame=3)
    return make_file(tmp_path / "small.hnv", video, [first, second])


def hnv(
    *arguments: object, check: bool = True, **options: object
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command as a user would; `check` expects success."""
    environment = {**os.environ, **options.pop("env", {})}  # type: ignore[dict-item]
    run = subprocess.run(
        [sys.executable, "-m", "hnervcodec", *map(str, arguments)],
        capture_output=True, env=environment, timeout=300, **options,
    )  # fmt: skip
    if check:
        assert run.returncode == 0, run.stderr.decode()
    return run


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


@pytest.fixture(scope="session")
def real_source(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """20 real frames at 63x47 (odd on purpose), lossless."""
    path = tmp_path_factory.mktemp("clips") / "bunny63.mkv"
    command = [ffmpeg, "-v", "error", "-i", EXCERPT, "-vf", "scale=63:47:flags=area"]
    subprocess.run([*command, "-frames:v", "20", "-c:v", "ffv1", path], check=True)
    return path


@pytest.fixture(scope="session")
def real_file(tmp_path_factory: pytest.TempPathFactory, real_source: Path) -> Path:
    """`real_source` encoded in two segments."""
    path = tmp_path_factory.mktemp("coded") / "bunny63.hnv"
    hnv("encode", real_source, "-o", path, "--bpp", "0.9", "--preset", "ultrafast",
        "--segment", "12")  # fmt: skip
    return path
