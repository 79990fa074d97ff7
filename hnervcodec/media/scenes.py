"""Where segments begin."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.levels import LEVELS
from hnervcodec.media.filters import SceneDetector
from hnervcodec.planes import Planes

MOST_FRAMES = LEVELS[max(LEVELS)].frames  # of a segment


def scan(video: VideoHeader, frames: Iterable[Planes], wanted: int, scenecut: float) -> list[int]:
    """The segments' numbers of frames, about `wanted` each: a frame whose scene score reaches
    `scenecut` begins one (0: none does), where no segment gets shorter than half of `wanted` by
    that; those longer than one and a half times `wanted` are divided evenly."""
    score = SceneDetector(video)
    shortest, longest = math.ceil(wanted / 2), min(wanted + wanted // 2, MOST_FRAMES)
    scenes: list[int] = []
    for planes in frames:
        changed = score(planes)
        if not scenes or (0 < scenecut <= changed and scenes[-1] >= shortest):
            scenes.append(0)
        scenes[-1] += 1
    if len(scenes) > 1 and scenes[-1] < shortest:
        rest = scenes.pop()
        scenes[-1] += rest
    lengths: list[int] = []
    for scene in scenes:
        parts = math.ceil(scene / longest)
        ends = [round(scene * n / parts) for n in range(parts + 1)]
        lengths += [stop - start for start, stop in pairwise(ends)]
    return lengths
