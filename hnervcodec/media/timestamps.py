"""Timestamps of decoded frames, made to increase as they should."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

Stamp = tuple[int | None, int]  # a frame's pts, None if it is unknown, and its duration, or 0


class PtsGuess:
    """Tells a frame's time from its presentation and its decoding timestamp, whichever has been the
    less faulty of the two so far: ffmpeg's `guess_correct_pts`. Call it for each frame in turn."""

    def __init__(self) -> None:
        self._last_pts = self._last_dts = -(1 << 63)
        self._faulty_pts = self._faulty_dts = 0

    def __call__(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._faulty_dts += dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        is_pts = pts is not None and (self._faulty_pts <= self._faulty_dts or dts is None)
        return pts if is_pts else dts


def straighten(
    stamps: Sequence[Stamp], ticks_per_frame: Fraction
) -> tuple[list[tuple[int, int]], int, int]:
    """Makes timestamps increase. One that is missing, or ahead of those that follow, comes to lie
    evenly between its neighbours; one that repeats the last or lies before it is put a tick after
    it. Returns the stamps, how many were missing, and how many were moved.

    ticks_per_frame: at the nominal frame rate, for what lies beyond a single known timestamp. At
    least one must be known.
    """
    points = [pts for pts, _ in stamps]
    before: int | None = None
    for n, at in enumerate(points):
        following = [pts for pts in points[n + 1 : n + 3] if pts is not None]
        is_ahead = at is not None and (before is None or at > before)
        if is_ahead and following and all(_lies_between(before, pts, at) for pts in following):
            points[n] = None
        elif at is not None:
            before = at if before is None else max(at, before)
    known = [n for n, at in enumerate(points) if at is not None]
    neighbours = ((points[m], points[n], n - m) for m, n in pairwise(known))
    gaps = [
        Fraction(b - a, n) for a, b, n in neighbours if a is not None and b is not None and b > a
    ]
    step = median_low(gaps) if gaps else max(ticks_per_frame, Fraction(1))
    made: list[tuple[int, int]] = []
    missing = moved = 0
    following_known = iter([*known, None])
    after = next(following_known)
    last_known: int | None = None
    for n, (pts, duration) in enumerate(stamps):
        at = points[n]
        if at is None:
            missing += pts is None
            moved += pts is not None
            duration = 0
            at = _between(points, last_known, after, n, step)
        else:
            last_known, after = n, next(following_known)
            if made and at <= made[-1][0]:
                moved += 1
        if made and at <= made[-1][0]:
            at = made[-1][0] + 1
        made.append((at, duration))
    return made, missing, moved


def _lies_between(low: int | None, at: int, high: int | None) -> bool:
    return (low is None or low < at) and high is not None and at < high


def _between(
    points: Sequence[int | None], before: int | None, after: int | None, n: int, step: Fraction
) -> int:
    """An even place for point n between the known points number `before` and `after`."""
    low = None if before is None else points[before]
    high = None if after is None else points[after]
    if before is None or low is None:
        assert after is not None and high is not None, "no timestamp is known"
        return round(high - (after - n) * step)
    if after is None or high is None:
        return round(low + (n - before) * step)
    return round(low + Fraction(high - low) * (n - before) / (after - before))
