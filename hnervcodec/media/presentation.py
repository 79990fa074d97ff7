"""What goes with frames that are written out: when and how they are shown, and their sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import count, repeat

from hnervcodec.bitstream.ancillary import Display, StreamInfo, StreamPacket, moved
from hnervcodec.bitstream.reader import Reader
from hnervcodec.bitstream.side_data import SideData
from hnervcodec.bitstream.timing import ConstantTimes, FrameTimes, VariableTimes


@dataclass(frozen=True)
class Presentation:
    """Of frames in the order of their output."""

    time_base: Fraction  # seconds
    stamps: Iterable[tuple[int, int]]  # pts and duration of each, in time_base
    is_constant: bool = True  # whether they are those of the frame rate
    display: Display = field(default_factory=Display)
    streams: list[StreamInfo] = field(default_factory=list)
    packets: Iterable[StreamPacket] = ()  # in time order


def constant(frame_rate: Fraction, display: Display) -> Presentation:
    """Silent frames that are all shown equally long."""
    stamps = zip(count(), repeat(1), strict=False)
    return Presentation(1 / frame_rate, stamps, display=display)


def whole(side_data: SideData) -> Presentation:
    """A video from its first frame to its last."""
    shown, times = constant(side_data.frame_rate, side_data.display), side_data.times
    if times is not None:
        variable = VariableTimes.of([times])
        stamps = list(zip(variable.ticks, variable.durations, strict=False))
        shown = replace(shown, time_base=times.time_base, stamps=stamps, is_constant=False)
    packets = _by_time(side_data.packets, side_data.streams)
    return replace(shown, streams=side_data.streams, packets=packets)


def part(reader: Reader, times: FrameTimes, frames: Sequence[int]) -> Presentation:
    """Consecutive frames of a file; the first is shown at 0 unless it is the file's first."""
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
                inside = moved(reader.packets(entry), reader.streams, begin, *window)
                yield from _by_time(inside, reader.streams)

    return Presentation(
        times.time_base,
        stamps,
        is_constant,
        reader.display,
        reader.streams,
        packets() if reader.streams else (),
    )


def _by_time(packets: list[StreamPacket], streams: list[StreamInfo]) -> list[StreamPacket]:
    return sorted(packets, key=lambda packet: packet.pts * streams[packet.stream].time_base)
