"""People who walk through a real scene before a camera that stands still, so that it is known what
lies behind them: for tools/paper.

The clip is OpenCV's sample vtest.avi (768x576, of the PETS 2009 recordings); used are the 100 of
its 795 frames in which the camera moves least.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from reference import ROOT, Filters, read_clip

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.planes import Planes

CLIP = ROOT / "clips/vtest.avi"
SCENE: Filters = (("scale", "320:240:flags=area"),)
DETAIL: Filters = (("crop", "320:240:200:120"),)  # with the camera's noise, as nothing is averaged
FIRST, FRAMES = 300, 100
AROUND = 50  # frames before and after these that tell what the background is
DIFFERENCE = 14  # grey levels that a person differs from the background by
LEAST = 25  # pixels that move together, of a person


@cache
def walkers(filters: Filters) -> tuple[VideoHeader, list[Planes], Planes]:
    """Header, frames, and the scene without people: the median of each sample over time."""
    last = FIRST + FRAMES
    header, frames = read_clip(CLIP, filters, last + AROUND)
    known = frames[FIRST - AROUND :]
    background = tuple(
        np.median(np.stack(planes), 0).astype(np.uint8) for planes in zip(*known, strict=True)
    )
    return header, frames[FIRST:last], background


def people(frames: list[Planes], background: Planes) -> list[NDArray[np.bool_]]:
    """Where they are in each frame [H, W], with a margin."""
    return [_moving(luma, background[0]) for luma, *_ in frames]


def _moving(luma: NDArray[np.uint8], background: NDArray[np.uint8]) -> NDArray[np.bool_]:
    difference = cv2.GaussianBlur(cv2.absdiff(luma, background).astype(np.float32), (5, 5), 0)
    moving = (difference > DIFFERENCE).astype(np.uint8)
    opened = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, facts, _ = cv2.connectedComponentsWithStats(opened)
    large = [n for n in range(1, count) if facts[n, cv2.CC_STAT_AREA] >= LEAST]
    found = np.isin(labels, large).astype(np.uint8)
    return cv2.dilate(found, np.ones((7, 7), np.uint8)).astype(bool)
