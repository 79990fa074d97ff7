"""Selections of frames, by number or by another frame rate."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, chain, pairwise
from typing import overload

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.timing import ConstantTimes, FrameTimes
from hnervcodec.errors import UsageError

MAX_FRAMES_PER_CODED = 100
MAX_RANGES_SHOWN = 20


def retimed(
    video: VideoHeader,
    frame_rate: Fraction | None,
    slow_motion: Fraction,
    times: FrameTimes | None = None,
) -> tuple[VideoHeader, Sequence[int | Fraction]]:
    """Header and positions of the frames of the whole video at another frame rate or speed.

    frame_rate: frames per second; None: the video's. slow_motion: how many times as long the result
    is. times: of the coded frames, if they are not those of the frame rate. The last frame is held
    for as long as it was. A position is a frame number or, between two frames, a fraction.
    UsageError for rates and factors out of range.
    """
    if frame_rate is None and slow_motion == 1:
        return video, range(video.frame_count)
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
    positions = _RetimedPositions(times, seconds, math.ceil(count / step))
    return replace(video, frame_rate=rate, frame_count=len(positions)), positions


class _RetimedPositions(Sequence[int | Fraction]):
    """Positions of frames that are shown every `seconds`; a damaged file may claim billions."""

    def __init__(self, times: FrameTimes, seconds: Fraction, count: int):
        self._times, self._seconds, self._count = times, seconds, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, n: int) -> int | Fraction: ...
    @overload
    def __getitem__(self, n: slice) -> list[int | Fraction]: ...
    def __getitem__(self, n: int | slice) -> int | Fraction | list[int | Fraction]:
        if isinstance(n, slice):
            return [self[at] for at in range(self._count)[n]]
        at = self._times.begin + range(self._count)[n] * self._seconds
        # Far below a frame's duration, and short enough for the arithmetic of spec section 9.4.
        position = self._times.position(at).limit_denominator(1 << 16)
        position = min(position, Fraction(self._times.frame_count - 1))
        return position.numerator if position.denominator == 1 else position


class Selection(Sequence[int]):
    """Frame numbers in the order in which they were asked for, kept as ranges: a damaged file may
    claim billions of them."""

    def __init__(self, ranges: Iterable[range]):
        self.ranges = [part for part in ranges if part]
        self._ends = list(accumulate(map(len, self.ranges)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges)

    @overload
    def __getitem__(self, n: int) -> int: ...
    @overload
    def __getitem__(self, n: slice) -> list[int]: ...
    def __getitem__(self, n: int | slice) -> int | list[int]:
        if isinstance(n, slice):
            return [self[at] for at in range(len(self))[n]]
        n = range(len(self))[n]
        part = bisect_right(self._ends, n)
        return self.ranges[part][n - self._ends[part]]

    def __str__(self) -> str:
        """As `parse_frames` reads it, such as 1-3,7; what is very long is cut short."""
        words = [_as_word(part) for part in self.ranges[:MAX_RANGES_SHOWN]]
        return ",".join(words) + (",..." if len(self.ranges) > len(words) else "")

    @property
    def is_consecutive(self) -> bool:
        """Whether the numbers are n, n + 1, n + 2 ..."""
        return all(part.step == 1 or len(part) == 1 for part in self.ranges) and all(
            one[-1] + 1 == other[0] for one, other in pairwise(self.ranges)
        )

    def within(self, intervals: Sequence[range]) -> Selection:
        """Those of the numbers that lie in one of `intervals`, which are ascending and apart."""
        return Selection(chain.from_iterable(_within(part, intervals) for part in self.ranges))


def gaps(intervals: Sequence[range], stop: int) -> list[range]:
    """What lies between `intervals`, which are ascending and apart, from 0 to `stop`."""
    begins = [0, *(part.stop for part in intervals)]
    ends = [*(part.start for part in intervals), stop]
    return [range(begin, end) for begin, end in zip(begins, ends, strict=True) if begin < end]


def _within(numbers: range, intervals: Sequence[range]) -> list[range]:
    if numbers.step < 0:
        return [part[::-1] for part in reversed(_within(numbers[::-1], intervals))]
    first = bisect_right(intervals, numbers[0], key=lambda part: part.stop)
    last = bisect_right(intervals, numbers[-1], key=lambda part: part.start)
    places = (
        [max(0, -((numbers.start - at) // numbers.step)) for at in (part.start, part.stop)]
        for part in intervals[first:last]
    )
    return [part for begin, end in places if (part := numbers[begin:end])]


def _as_word(numbers: range) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers.step == 1:
        return f"{numbers[0]}-{numbers[-1]}"
    stop = numbers[-1] + (1 if numbers.step > 0 else -1)
    return f"{numbers[0]}:{stop if stop >= 0 else ''}:{numbers.step}"


_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(-?\d+))?")


def parse_frames(text: str, count: int) -> Selection:
    """Frame numbers of a selection such as `7`, `10-20` (inclusive), `10:20:2` (a Python slice)
    or a list of these, `3,9,20-22`, in the order written.

    count: frames in the file. UsageError if the selection is none, or leaves the file.
    """
    ranges: list[range] = []
    for part in text.split(","):
        part = part.strip()
        if match := _RANGE.fullmatch(part):
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise UsageError(f"frames {part!r}: the range ends before it starts")
            if last >= count:
                raise UsageError(f"frames {part!r}: the last frame is {count - 1}")
            ranges.append(range(first, last + 1))
        elif match := _SLICE.fullmatch(part):
            start, stop, step = (int(field) if field else None for field in match.groups())
            if step == 0:
                raise UsageError(f"frames {part!r}: the step is 0")
            ranges.append(range(count)[start:stop:step])
        else:
            raise UsageError(f"frames {part!r}: write 7, 10-20, 10:20:2 or a list of these")
    selected = Selection(ranges)
    if not selected:
        raise UsageError(f"frames {text!r} select nothing of {count} frames")
    return selected
