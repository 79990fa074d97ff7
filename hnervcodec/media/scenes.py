"""Divides a video into segments that begin where its scenes change."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from statistics import fmean

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.levels import LEVELS
from hnervcodec.media.filters import SceneDetector
from hnervcodec.planes import Planes

MOST_FRAMES = LEVELS[max(LEVELS)].frames  # of a segment
STILL = 0.8  # mean difference between frames, `SceneDetector.difference`, of a still camera
# What one network shows best of a scene before a still camera: all of it, but for the memory that
# encoding takes.
STILL_FRAMES, STILL_SAMPLES = 1024, 240_000_000


def scan(
    video: VideoHeader,
    frames: Iterable[Planes],
    wanted: int,
    scenecut: float,
    longer_if_still: bool = False,
) -> list[int]:
    """Divides frames into segments of about `wanted` frames each and returns their lengths.

    longer_if_still: more frames than `wanted` before a still camera, where most of the picture is
    the same in all frames and one network is enough to show it.
    scenecut: a frame whose score (`SceneDetector`, 0..100) reaches it begins a segment, where no
    segment gets shorter than half of `wanted` by that; 0: none does. Scenes longer than one and a
    half times `wanted`, or than the highest level allows, are divided evenly.
    """
    score = SceneDetector(video)
    shortest = math.ceil(wanted / 2)
    still = max(min(STILL_SAMPLES // (video.width * video.height), STILL_FRAMES), wanted)
    scenes: list[list[float]] = []  # of each frame the difference from the one before it
    for planes in frames:
        changed = score(planes)
        if not scenes or (0 < scenecut <= changed and len(scenes[-1]) >= shortest):
            scenes.append([])
        scenes[-1].append(score.difference)
    if len(scenes) > 1 and len(scenes[-1]) < shortest:
        rest = scenes.pop()
        scenes[-1] += rest
    lengths: list[int] = []
    for scene in scenes:
        is_still = len(scene) > 1 and fmean(scene[1:]) < STILL
        about = still if longer_if_still and is_still else wanted
        parts = math.ceil(len(scene) / min(about + about // 2, MOST_FRAMES))
        ends = [round(len(scene) * n / parts) for n in range(parts + 1)]
        lengths += [stop - start for start, stop in pairwise(ends)]
    return lengths
