"""What goes with frames that are written out: when and how they are shown, their sound and
subtitles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import count, repeat

from hnervcodec.bitstream.ancillary import (
    Display,
    StreamInfo,
    StreamPacket,
    in_time_order,
    shift_packets,
)
from hnervcodec.bitstream.reader import Reader
from hnervcodec.bitstream.side_data import SideData
from hnervcodec.bitstream.timing import ConstantTimes, FrameTimes, VariableTimes


@dataclass(frozen=True)
class Presentation:
    """When and how frames are shown that are written to a file, in the order of their output, and
    the compressed sound and subtitles that go with them."""

    time_base: Fraction  # seconds per tick
    stamps: Iterable[tuple[int, int]]  # pts and duration of each frame, in ticks; may be endless
    is_constant: bool = True  # whether frame n is shown at n ticks of one frame's time each
    display: Display = field(default_factory=Display)
    streams: list[StreamInfo] = field(default_factory=list)
    packets: Iterable[StreamPacket] = ()  # of all streams, in the order of their times


def constant(frame_rate: Fraction, display: Display) -> Presentation:
    """The presentation of silent frames at `frame_rate` frames per second, from 0 on."""
    stamps = zip(count(), repeat(1), strict=False)
    return Presentation(1 / frame_rate, stamps, display=display)


def whole(side_data: SideData) -> Presentation:
    """The presentation of a whole video, from its first frame to its last, that is not yet in a
    file."""
    shown, times = constant(side_data.frame_rate, side_data.display), side_data.times
    if times is not None:
        variable = VariableTimes.of([times])
        stamps = list(zip(variable.ticks, variable.durations, strict=False))
        shown = replace(shown, time_base=times.time_base, stamps=stamps, is_constant=False)
    packets = in_time_order(side_data.packets, side_data.streams)
    return replace(shown, streams=side_data.streams, packets=packets)


def part(reader: Reader, times: FrameTimes, frames: Sequence[int]) -> Presentation:
    """The presentation of consecutive frames of a file, with the sound that begins while they are
    shown.

    times: when the file's frames are shown. frames: their numbers, increasing by 1. The first is
    shown at 0, unless it is the file's first, which keeps its time. Packets are read from the file
    when they are iterated over.
    """
    first, last = frames[0], frames[-1]
    begin = times.pts(first) if first else Fraction(0)
    is_constant = isinstance(times, ConstantTimes)
    if isinstance(times, VariableTimes):
        zero = times.ticks[first] if first else 0
        ticks = times.ticks[first : last + 1]
        durations = times.durations[first : last + 1]
        stamps = [(tick - zero, length) for tick, length in zip(ticks, durations, strict=True)]
    else:
        stamps = [(n, 1) for n in range(len(frames))]
    end = times.pts(last) + times.duration(last)
    window = (begin if first else None, end if last + 1 < reader.video.frame_count else None)

    def packets() -> Iterator[StreamPacket]:
        for entry in reader.index:
            if entry.frames.start <= last and first < entry.frames.stop:
                inside = shift_packets(reader.packets(entry), reader.streams, begin, *window)
                yield from in_time_order(inside, reader.streams)

    return Presentation(
        times.time_base,
        stamps,
        is_constant,
        reader.display,
        reader.streams,
        packets() if reader.streams else (),
    )
