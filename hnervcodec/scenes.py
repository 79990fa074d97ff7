"""How a video is divided into segments, and its bits among them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from hnervcodec.planes import Planes
from hnervcodec.syntax import VideoHeader
from hnervcodec.video import FrameScan

# Difficult segments get more bits, but not as many more as their quality would ask for: x264's
# exponent for the same choice (its qcomp).
COMPLEXITY_EXPONENT = 0.6


@dataclass(frozen=True, slots=True)
class Scene:
    """One segment to be."""

    frames: int
    complexity: float  # bits that x264 spends on it at constant quality

    @property
    def weight(self) -> float:
        """Its share of a file's bits, up to a factor."""
        each = self.complexity / self.frames + 1  # never nothing
        return self.frames * math.pow(each, COMPLEXITY_EXPONENT)


def scan(
    video: VideoHeader, frames: Iterable[Planes], longest: int, scenecut: float
) -> list[Scene]:
    """The segments of a video: a frame whose scene score reaches `scenecut` begins one (0: none
    does), where no segment gets shorter than half of `longest` by that; those longer than one and
    a half times `longest` are divided evenly."""
    measure = FrameScan(video)
    shortest = math.ceil(longest / 2)
    scenes: list[list[int]] = []
    for planes in frames:
        score, bits = measure(planes)
        if not scenes or (0 < scenecut <= score and len(scenes[-1]) >= shortest):
            scenes.append([])
        scenes[-1].append(bits)
    if len(scenes) > 1 and len(scenes[-1]) < shortest:
        rest = scenes.pop()
        scenes[-1] += rest
    divided = []
    for scene in scenes:
        parts = math.ceil(len(scene) / (longest + longest // 2))
        ends = [round(len(scene) * n / parts) for n in range(parts + 1)]
        divided += [Scene(stop - start, sum(scene[start:stop])) for start, stop in pairwise(ends)]
    return divided


def shares(scenes: list[Scene]) -> list[float]:
    """What part of a file's bits each is to have; they add up to 1."""
    total = sum(scene.weight for scene in scenes)
    return [scene.weight / total for scene in scenes]
