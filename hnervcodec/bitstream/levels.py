"""Profiles and levels: the limits within which a decoder promises to handle any file (spec section
"Profiles and levels").

Everything here is checked on declared numbers, before any memory is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from hnervcodec.bitstream.architecture import LayerSpec, macs_per_frame, weight_count
from hnervcodec.errors import LimitError

MAIN = 0
PROFILES = {MAIN: "Main"}


@dataclass(frozen=True, slots=True)
class Level:
    """Upper limits, all inclusive, of one level: each property is a limit of what it names."""

    number: int
    luma_samples: int  # width * height of a frame
    weights: int  # per segment

    @property
    def dimension(self) -> int:
        """Width, and height."""
        return 16 * int(self.luma_samples**0.5)

    @property
    def macs(self) -> int:
        """Multiplications per frame."""
        return self.luma_samples << 16

    @property
    def features(self) -> int:
        """Values one layer writes per frame."""
        return self.luma_samples << 4

    @property
    def embedding(self) -> int:
        """Embedding values per segment."""
        return min(self.luma_samples << 5, 1 << 26)

    @property
    def frames(self) -> int:
        """Frames per segment."""
        return 2048


LEVELS = {
    level.number: level
    for level in (
        Level(10, 1 << 16, 1 << 18),  # 176x144, 320x180
        Level(20, 1 << 18, 1 << 20),  # 640x360
        Level(30, 1 << 20, 1 << 22),  # 1280x720
        Level(40, 1 << 21, 1 << 23),  # 1920x1080
        Level(50, 1 << 23, 1 << 24),  # 3840x2160
        Level(60, 1 << 25, 1 << 25),  # 7680x4320
    )
}


def _check(level: Level, what: str, value: int, limit: int) -> None:
    if value > limit:
        raise LimitError(f"{what} {value} exceeds the limit {limit} of level {level.number}")


def check_frame(level: Level, width: int, height: int) -> None:
    """LimitError if frames of width x height pixels exceed the level."""
    _check(level, "frame width", width, level.dimension)
    _check(level, "frame height", height, level.dimension)
    _check(level, "luma samples per frame", width * height, level.luma_samples)


def check_frames(level: Level, frames: int) -> None:
    """LimitError if a segment of so many frames exceeds the level."""
    _check(level, "frames per segment", frames, level.frames)


def check_segment(level: Level, specs: tuple[LayerSpec, ...], frames: int) -> None:
    """LimitError if a segment of `frames` frames with this network exceeds the level."""
    stem = specs[0]
    embedding = frames * stem.in_channels * stem.height * stem.width
    check_frames(level, frames)
    _check(level, "weights per segment", weight_count(specs), level.weights)
    _check(level, "embedding values per segment", embedding, level.embedding)
    _check(level, "multiplications per frame", macs_per_frame(specs), level.macs)
    for spec in specs:
        _check(level, f"values written by {spec.name}", spec.features, level.features)


def lowest_level(width: int, height: int, weights: int = 0) -> Level:
    """The lowest level for frames of width x height pixels and so many weights per segment.

    More weights than the highest level holds count as its limit. LimitError if the frames exceed
    the highest level.
    """
    weights = min(weights, max(level.weights for level in LEVELS.values()))
    for level in LEVELS.values():
        if (
            width * height <= level.luma_samples
            and max(width, height) <= level.dimension
            and weights <= level.weights
        ):
            return level
    raise LimitError(f"{width}x{height} frames exceed the largest level")
