"""All that goes with the frames of a video, cut into the ancillary chunks of a file that is
written."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, groupby

from hnervcodec.bitstream import ancillary
from hnervcodec.bitstream.ancillary import (
    Display,
    PacketTable,
    SegmentTimes,
    StreamInfo,
    StreamPacket,
    in_time_order,
    shift_packets,
)
from hnervcodec.bitstream.container import CHUNK_OVERHEAD

Chunks = Iterator[tuple[bytes, bytes]]  # type, payload


@dataclass(frozen=True)
class SideData:
    """Display, times, sound and subtitles of a whole video of `frame_count` frames at
    `frame_rate`."""

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
        """The chunks that stand between VHDR and the first SEGM."""
        if self.display != Display():
            yield ancillary.DISPLAY, ancillary.write_display(self.display)
        for info in self.streams:
            yield ancillary.STREAM, ancillary.write_stream(info)

    def of_segment(self, first: int, count: int, origin: int = 0) -> Chunks:
        """The chunks that follow the segment of frames first .. first + count - 1.

        origin: the frame at which time begins, if not the video's first one.
        """
        shift = self._begin_and_end(origin, 0)[0] if origin else Fraction(0)
        if self.times is not None:
            pts = self._ticks[first] - round(shift / self.times.time_base)
            durations = self.times.durations[first : first + count]
            part = SegmentTimes(self.times.time_base, pts, durations)
            yield ancillary.TIMES, ancillary.write_times(part)
        begin, end = (
            bisect_left(self._packet_times, at) for at in self._begin_and_end(first, count)
        )
        begin = 0 if first == 0 else begin
        end = len(self.packets) if first + count == self.frame_count else end
        inside = sorted(self._packets_by_time[begin:end], key=lambda packet: packet.stream)
        inside = shift_packets(inside, self.streams, shift)
        for _, packets in groupby(inside, key=lambda packet: packet.stream):
            yield ancillary.PACKETS, ancillary.write_packets(PacketTable.of(list(packets)))

    def _begin_and_end(self, first: int, count: int) -> tuple[Fraction, Fraction]:
        """When frames first .. first + count - 1 begin and end, in seconds."""
        if self.times is None:
            return first / self.frame_rate, (first + count) / self.frame_rate
        begin, end = self._ticks[first], self._ticks[first + count]
        return begin * self.times.time_base, end * self.times.time_base

    @cached_property
    def _ticks(self) -> list[int]:
        """When each frame is shown, and the end; of no frames without times of their own."""
        times = self.times
        return list(accumulate(times.durations, initial=times.first_pts)) if times else []

    def _seconds(self, packet: StreamPacket) -> Fraction:
        return packet.pts * self.streams[packet.stream].time_base

    @cached_property
    def _packets_by_time(self) -> list[StreamPacket]:
        return in_time_order(self.packets, self.streams)

    @cached_property
    def _packet_times(self) -> list[Fraction]:
        return [self._seconds(packet) for packet in self._packets_by_time]

    def size(self, lengths: Sequence[int]) -> int:
        """Bytes of all ancillary chunks of a file whose segments have so many frames."""
        chunks, first = list(self.before_segments()), 0
        for count in lengths:
            chunks += self.of_segment(first, count)
            first += count
        return sum(CHUNK_OVERHEAD + len(payload) for _, payload in chunks)
