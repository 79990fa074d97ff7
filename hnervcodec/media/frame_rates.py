"""The frame rate of a source: what it says, unless its timestamps say otherwise."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.format import Flags

from hnervcodec.media.demuxing import open_source

_SEVERAL_PACKETS = 50  # from which a frame rate is measured
_HIGH = 480  # frames per second that are more likely to be a time base
_DEFAULT = 25  # libav's, of raw streams
_USUAL = [Fraction(rate) for rate in (24, 25, 30, 48, 50, 60, 90, 100, 120, 144, 240)]
_USUAL += [rate * 1000 / 1001 for rate in (*_USUAL,) if rate in (24, 30, 60, 120)]


def frame_rate(source: str, container: InputContainer, stream: Any, has_pts: bool) -> Fraction:
    """Frames per second of a stream. has_pts: whether its packets' pts are to be believed."""
    guess = stream.guessed_rate
    if _is_raw(container) and guess:
        return Fraction(guess)
    rate = Fraction(stream.average_rate or guess or _DEFAULT)
    base = stream.time_base
    is_tick = base is not None and rate * base >= 1  # it may but repeat the time base
    if not is_tick or (guess == rate and rate < _HIGH):
        return rate
    if not Path(source).is_file():
        return Fraction(guess or rate)
    return _measured(source, stream, base, rate, has_pts)


def _is_raw(container: InputContainer) -> bool:
    return Flags.no_timestamps in Flags(container.format.flags)


def _measured(source: str, stream: Any, base: Fraction, said: Fraction, has_pts: bool) -> Fraction:
    """The rate of the first packets, if it is far from what the source says."""
    with open_source(source) as container:
        packets = container.demux(container.streams[stream.index])
        stamps = (p.pts if has_pts and p.pts is not None else p.dts for p in packets)
        found = sorted({at for at in islice(stamps, _SEVERAL_PACKETS) if at is not None})
    if len(found) < 2:
        return said
    mean = (len(found) - 1) / ((found[-1] - found[0]) * base)
    if mean * Fraction(3, 2) > said:
        return said

    def is_on_time(rate: Fraction) -> bool:
        return all(abs((at - found[0]) * base - n / rate) <= base for n, at in enumerate(found))

    usual = [rate for rate in _USUAL if is_on_time(rate)]
    return min(usual, key=lambda rate: abs(rate - mean), default=mean.limit_denominator(1001))


def is_without_rate(source: str, container: InputContainer, stream: Any) -> bool:
    """Whether a raw stream is read at libav's default of 25 frames/s because it says none."""
    if not _is_raw(container) or stream.guessed_rate != _DEFAULT or not Path(source).is_file():
        return False
    other = {"framerate": str(_DEFAULT - 1)}
    with open_source(source, format=container.format.name, options=other) as again:
        same: Any = again.streams[stream.index]
        return bool(same.guessed_rate != _DEFAULT)
