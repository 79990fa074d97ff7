"""When frames are shown, as the containers that libav writes can say it.

A `.hnv` file says times by ratios of 32-bit numbers; libav's have 31 bits, and each container has
limits of its own. What a container holds is left as it is; other times are put into the nearest
that it holds, with a note, or refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

from hnervcodec.bitstream.ancillary import StreamPacket
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import UsageError
from hnervcodec.media.output_formats import name_of
from hnervcodec.media.presentation import Presentation

_INT32 = (1 << 31) - 1  # the largest numerator and denominator of libav's ratios
_LATEST = (1 << 62) // 1_000_000  # seconds: libav counts microseconds in 63 bits
_MOST_TICKS = 1 << 60  # of any time
_MP4_MOST_TICKS = 1 << 29  # of a frame: distances of several have to fit into 31 bits
_MP4_LEAST_SCALE = 20000  # libav's own choice of ticks per second is at most this, or the rate
_GIF_TICK, _GIF_LEAST, _GIF_MOST = Fraction(1, 100), 2, 65535  # players hold a single tick longer


def within_int32(ratio: Fraction) -> Fraction:
    """The nearest positive ratio of two numbers below 2^31."""
    if ratio > 1:
        return 1 / within_int32(1 / ratio)
    return max(ratio.limit_denominator(_INT32), Fraction(1, _INT32))


def rescaled(ticks: int, ratio: Fraction) -> int:
    """ticks * ratio, rounded to the nearest number, halves away from 0, as libav does."""
    size = (2 * abs(ticks) * ratio.numerator + ratio.denominator) // (2 * ratio.denominator)
    return size if ticks >= 0 else -size


def held_times(
    muxer: str, header: VideoHeader, shown: Presentation
) -> tuple[Presentation, list[str]]:
    """The presentation with times that libav's `muxer` holds, and notes of what has changed.

    UsageError: the times are too far from what it holds, and what to do.
    """
    name, unit = name_of(muxer), shown.time_base
    notes: list[str] = []
    if shown.is_constant:
        shortest = longest = 1
        latest = header.frame_count
    else:
        stamps = list(shown.stamps)
        first = stamps[0][0] if stamps else 0
        first = first if muxer == "gif" else min(first, 0)  # a GIF begins at once
        if first and muxer != "gif":
            late = f"{float(-first * unit):.3g} s"
            notes.append(f".{name} begins with its first frame: all comes {late} later")
        stamps = [(pts - first, duration) for pts, duration in stamps]
        shown = replace(shown, stamps=stamps, packets=_later(shown, -first * unit))
        shortest = min((duration for _, duration in stamps), default=1)
        longest = max((duration for _, duration in stamps), default=1)
        latest = max((pts + duration for pts, duration in stamps), default=0)
    if latest * unit > _LATEST:
        raise UsageError(
            f".{name} holds no times beyond {float(_LATEST):.3g} s, and these frames reach "
            f"{float(latest * unit):.3g} s: decode fewer of them, or with another `fps`"
        )
    if muxer == "gif":
        return _held_by_gif(shown, shortest, longest)
    base = unit if unit == within_int32(unit) else Fraction(1, unit.denominator)
    if base.denominator > _INT32:
        base = Fraction(1, 1_000_000_000)
    is_mp4 = muxer in ("mp4", "mov")
    most = _MP4_MOST_TICKS if is_mp4 else _MOST_TICKS
    while max(longest * unit / most, latest * unit / _MOST_TICKS) * base.denominator > 1:
        if base.denominator == 1:
            raise UsageError(
                f".{name} holds no frame of {float(longest * unit):.3g} s: .mkv does, or decode "
                "with another `fps`"
            )
        base = Fraction(1, max(base.denominator // 10, 1))
    is_slow = is_mp4 and shown.is_constant and unit * _MP4_LEAST_SCALE > _INT32
    if base == unit and not is_slow:
        return shown, notes
    if is_mp4 and (unit / base).denominator > 1:
        notes.append(f".{name} holds these times rounded to multiples of {base} s")
    return _rebased(shown, base), notes


def _later(shown: Presentation, delay: Fraction) -> Iterable[StreamPacket]:
    """The packets, `delay` seconds later."""
    bases = [info.time_base for info in shown.streams]
    for packet in shown.packets:
        yield replace(packet, pts=packet.pts + round(delay / bases[packet.stream]))


def _held_by_gif(
    shown: Presentation, shortest: int, longest: int
) -> tuple[Presentation, list[str]]:
    least, most = _GIF_LEAST * _GIF_TICK, _GIF_MOST * _GIF_TICK
    unit = shown.time_base
    if least <= shortest * unit and longest * unit <= most and unit == within_int32(unit):
        return shown, []
    notes = []
    if shortest * unit < least or longest * unit > most:
        notes = [f".gif shows each frame for {float(least)} to {float(most)} s, and so these"]
    return _rebased(shown, _GIF_TICK, _GIF_LEAST, _GIF_MOST), notes


def _rebased(
    shown: Presentation, base: Fraction, least: int = 1, most: int = _MOST_TICKS
) -> Presentation:
    """In ticks of `base` seconds, of which each frame takes from `least` to `most`."""
    ratio = shown.time_base / base

    def stamps() -> Iterator[tuple[int, int]]:
        end: int | None = None  # of the frame before
        skipped = 0  # ticks that frames were to be shown beyond `most`
        for pts, duration in shown.stamps:
            begin = rescaled(pts, ratio) - skipped
            begin = begin if end is None else max(begin, end)
            wanted = max(rescaled(pts + duration, ratio) - skipped, begin + least)
            end = min(wanted, begin + most)
            skipped += wanted - end
            yield begin, end - begin

    return replace(shown, time_base=base, stamps=stamps(), is_constant=False)
