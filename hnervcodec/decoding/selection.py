"""Selections of frames, by number or by another frame rate."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.timing import ConstantTimes, FrameTimes
from hnervcodec.errors import UsageError

MAX_FRAMES_PER_CODED = 100


def retimed(
    video: VideoHeader,
    frame_rate: Fraction | None,
    slow_motion: Fraction,
    times: FrameTimes | None = None,
) -> tuple[VideoHeader, list[int | Fraction]]:
    """Header and positions of the frames of the whole video at another frame rate or speed.

    frame_rate: frames per second; None: the video's. slow_motion: how many times as long the result
    is. times: of the coded frames, if they are not those of the frame rate. The last frame is held
    for as long as it was. A position is a frame number or, between two frames, a fraction.
    UsageError for rates and factors out of range.
    """
    if frame_rate is None and slow_motion == 1:
        return video, list(range(video.frame_count))
    times = times or ConstantTimes(video.frame_rate, video.frame_count)
    rate = video.frame_rate if frame_rate is None else frame_rate
    asked = frame_rate is None or (0 < rate <= 1 << 20 and rate.denominator < 1 << 20)
    if not asked:
        raise UsageError(f"{rate} frames per second is out of range: more than 0, up to {1 << 20}")
    if slow_motion <= 0:
        raise UsageError(f"slow motion by {slow_motion} is out of range: it must be more than 0")
    count, seconds = times.frame_count, 1 / rate / slow_motion
    step = count * seconds / (times.end - times.begin)
    if not Fraction(1, MAX_FRAMES_PER_CODED) <= step <= count:
        raise UsageError(
            f"one frame per {float(step):.3g} coded ones is asked for: "
            f"not in 1/{MAX_FRAMES_PER_CODED}..{count}"
        )
    positions: list[int | Fraction] = []
    for n in range(math.ceil(count / step)):
        # Far below a frame's duration, and short enough for the arithmetic of spec section 9.4.
        position = times.position(times.begin + n * seconds).limit_denominator(1 << 16)
        position = min(position, Fraction(count - 1))
        positions.append(position.numerator if position.denominator == 1 else position)
    return replace(video, frame_rate=rate, frame_count=len(positions)), positions


_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(-?\d+))?")


def parse_frames(text: str, count: int) -> list[int]:
    """Frame numbers of a selection such as `7`, `10-20` (inclusive), `10:20:2` (a Python slice)
    or a list of these, `3,9,20-22`, in the order written.

    count: frames in the file. UsageError if the selection is none, or leaves the file.
    """
    selected: list[int] = []
    for part in text.split(","):
        part = part.strip()
        if match := _RANGE.fullmatch(part):
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise UsageError(f"frames {part!r}: the range ends before it starts")
            if last >= count:
                raise UsageError(f"frames {part!r}: the last frame is {count - 1}")
            selected += range(first, last + 1)
        elif match := _SLICE.fullmatch(part):
            start, stop, step = (int(field) if field else None for field in match.groups())
            if step == 0:
                raise UsageError(f"frames {part!r}: the step is 0")
            selected += range(count)[start:stop:step]
        else:
            raise UsageError(f"frames {part!r}: write 7, 10-20, 10:20:2 or a list of these")
    if not selected:
        raise UsageError(f"frames {text!r} select nothing of {count} frames")
    return selected
