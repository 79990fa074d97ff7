"""What an encode puts beside the frames: the ancillary chunks of a file, segment by segment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby

from hnervcodec import ancillary
from hnervcodec.ancillary import Display, SegmentTimes, StreamInfo, StreamPacket
from hnervcodec.container import CHUNK_OVERHEAD

Chunks = Iterator[tuple[bytes, bytes]]  # type, payload


@dataclass(frozen=True)
class Extras:
    """Of a whole video of `frame_count` frames at `frame_rate`."""

    frame_count: int
    frame_rate: Fraction
    display: Display = field(default_factory=Display)
    times: SegmentTimes | None = None  # None: those of the frame rate
    streams: list[StreamInfo] = field(default_factory=list)
    packets: list[StreamPacket] = field(default_factory=list)

    @property
    def minor(self) -> int:
        """Version of the format that has what is needed."""
        return 1 if self.times or self.streams or self.display != Display() else 0

    def before_segments(self) -> Chunks:
        if self.display != Display():
            yield ancillary.DISPLAY, ancillary.write_display(self.display)
        for info in self.streams:
            yield ancillary.STREAM, ancillary.write_stream(info)

    def of_segment(self, first: int, count: int) -> Chunks:
        """What follows the segment of frames first .. first + count - 1."""
        if self.times is not None:
            durations = self.times.durations
            pts = self.times.first_pts + sum(durations[:first])
            part = SegmentTimes(self.times.time_base, pts, durations[first : first + count])
            yield ancillary.TIMES, ancillary.write_times(part)
        begin, end = self._start(first), self._start(first + count)
        is_first, is_last = first == 0, first + count == self.frame_count
        inside = [
            packet
            for packet in self.packets
            for seconds in (packet.pts * self.streams[packet.stream].time_base,)
            if (is_first or seconds >= begin) and (is_last or seconds < end)
        ]
        inside.sort(key=lambda packet: packet.stream)  # each stream's stay in their order
        for _, packets in groupby(inside, key=lambda packet: packet.stream):
            yield ancillary.PACKETS, ancillary.write_packets(list(packets))

    def _start(self, frame: int) -> Fraction:
        if self.times is None:
            return frame / self.frame_rate
        ticks = self.times.first_pts + sum(self.times.durations[:frame])
        return ticks * self.times.time_base

    def size(self, lengths: list[int]) -> int:
        """Bytes of all these chunks, with segments of these lengths."""
        chunks, first = list(self.before_segments()), 0
        for count in lengths:
            chunks += self.of_segment(first, count)
            first += count
        return sum(CHUNK_OVERHEAD + len(payload) for _, payload in chunks)
