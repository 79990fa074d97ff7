"""Divides a video into segments that begin where its scenes change."""

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
    """Divides frames into segments of about `wanted` frames each and returns their lengths.

    scenecut: a frame whose score (`SceneDetector`, 0..100) reaches it begins a segment, where no
    segment gets shorter than half of `wanted` by that; 0: none does. Scenes longer than one and a
    half times `wanted`, or than the highest level allows, are divided evenly.
    """
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
