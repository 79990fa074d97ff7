"""When the frames of a video are shown, in exact fractions of seconds."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise

from hnervcodec.bitstream.ancillary import SegmentTimes, coarsening_factor, divide_rounded
from hnervcodec.errors import FileError


@dataclass(frozen=True, slots=True)
class ConstantTimes:
    """Frame n is shown at n / frame_rate seconds."""

    frame_rate: Fraction
    frame_count: int

    @property
    def time_base(self) -> Fraction:
        """Seconds of a tick: a frame takes one."""
        return 1 / self.frame_rate

    @property
    def begin(self) -> Fraction:
        """When the first frame is shown, in seconds."""
        return Fraction(0)

    @property
    def end(self) -> Fraction:
        """When the last frame is not shown any more, in seconds."""
        return self.frame_count / self.frame_rate

    def pts(self, position: int | Fraction) -> Fraction:
        """Seconds; of a position between two frames the moment between theirs."""
        return position / self.frame_rate

    def duration(self, index: int) -> Fraction:
        """For how many seconds frame `index` is shown."""
        return 1 / self.frame_rate

    def position(self, seconds: Fraction) -> Fraction:
        """The inverse of `pts`, from `begin` to `end`."""
        return seconds * self.frame_rate


@dataclass(frozen=True, slots=True)
class VariableTimes:
    """Frame n is shown at ticks[n] * time_base seconds, for durations[n] * time_base seconds."""

    time_base: Fraction
    ticks: list[int]  # one more than frames: the last is the end
    durations: list[int] = field(repr=False)

    @property
    def frame_count(self) -> int:
        """Fewer than the video's where `recover` did not find the last ones."""
        return len(self.durations)

    @classmethod
    def of(cls, segments: list[SegmentTimes]) -> VariableTimes:
        """Those of consecutive segments; FileError unless time goes on from one to the next."""
        time_base = segments[0].time_base
        ticks: list[int] = []
        durations: list[int] = []
        end = segments[0].first_pts
        for part in segments:
            if part.time_base != time_base:
                raise FileError("segments differ in their time base", element="tIME.time_base")
            if part.first_pts < end:
                raise FileError(
                    f"a segment begins at {part.first_pts}, before the last one ends at {end}",
                    element="tIME.first_pts",
                )
            *starts, end = accumulate(part.durations, initial=part.first_pts)
            ticks += starts
            durations += part.durations
        return cls(time_base, [*ticks, end], durations)

    @property
    def begin(self) -> Fraction:
        """When the first frame is shown, in seconds."""
        return self.ticks[0] * self.time_base

    @property
    def end(self) -> Fraction:
        """When the last frame is not shown any more, in seconds."""
        return self.ticks[-1] * self.time_base

    def pts(self, position: int | Fraction) -> Fraction:
        """As in `ConstantTimes`."""
        before = int(position // 1)
        start, stop = self.ticks[before : before + 2]
        return (start + (stop - start) * (position - before)) * self.time_base

    def duration(self, index: int) -> Fraction:
        """As in `ConstantTimes`."""
        return self.durations[index] * self.time_base

    def position(self, seconds: Fraction) -> Fraction:
        """As in `ConstantTimes`."""
        at = seconds / self.time_base
        index = min(max(bisect_right(self.ticks, at) - 1, 0), self.frame_count - 1)
        start, stop = self.ticks[index : index + 2]
        return index + (at - start) / (stop - start)


FrameTimes = ConstantTimes | VariableTimes


def times_of(
    time_base: Fraction, stamps: list[tuple[int, int]], frame_rate: Fraction
) -> SegmentTimes | None:
    """Times of frames with these (pts, duration), a duration of 0 being unknown; None where they
    are those of the constant `frame_rate`, as exactly as the time base can say it. In a coarser
    time base where the format cannot say them otherwise.

    ValueError if they do not increase.
    """
    ticks = 1 / (frame_rate * time_base)  # per frame
    points = [pts for pts, _ in stamps]
    durations = [after - pts for pts, after in pairwise(points)]
    if min(durations, default=1) < 1:
        raise ValueError("timestamps do not increase")
    known = stamps[-1][1]
    durations.append(known if known > 0 else max(1, round(ticks)))
    is_on_time = all(abs(at - n * ticks) <= Fraction(1, 2) for n, at in enumerate(points))
    if is_on_time and abs(durations[-1] - ticks) < 1:
        return None
    farthest = max(abs(points[0]), abs(points[-1] + durations[-1]))
    factor = coarsening_factor(max(durations), farthest)
    if factor > 1:
        rounded = [
            (divide_rounded(pts, factor), divide_rounded(length, factor)) for pts, length in stamps
        ]
        return times_of(time_base * factor, rounded, frame_rate)
    return SegmentTimes(time_base, points[0], tuple(durations))
