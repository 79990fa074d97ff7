"""Decodes one video stream as ffmpeg does, and counts what of it is damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

from hnervcodec.errors import SourceError
from hnervcodec.media.demuxing import Demuxer
from hnervcodec.media.frames import reason
from hnervcodec.media.libav_errors import ErrorCount
from hnervcodec.media.timestamps import PtsGuess

_MOSTLY = 0.8  # of all gaps between frames: times are even
_ONE_TO_ONE = ("h264", "hevc")  # each packet is a frame, unless it is a field
_WITH_HIDDEN_FRAMES = ("vp8", "vp9", "av1")  # whose packets need not all be shown
_INDEXED = ("avi", "mov,mp4,m4a,3gp,3g2,mj2")  # formats whose index lists every packet


@dataclass
class Damage:
    """What of a source's video could not be read as it was.

    marred: packets and frames with errors, most of which are shown all the same. lost: frames that
    never came. broken: places where the file's structure is damaged, so that nobody knows what was
    there. ended: why reading ended before the source did, or "".
    """

    marred: int = 0
    lost: int = 0
    broken: int = 0
    ended: str = ""

    def notes(self) -> list[str]:
        """One line for people, if there is any damage."""
        parts = []
        if self.marred:
            parts.append(f"{counted(self.marred, 'frame')} with errors")
        if self.lost:
            parts.append(f"{counted(self.lost, 'frame')} lost")
        if self.broken:
            parts.append(f"the file is broken in {counted(self.broken, 'place')}")
        if self.ended:
            parts.append(f"reading ended early ({self.ended})")
        return [f"the source is damaged: {', '.join(parts)}"] if parts else []


def _missing(gaps: Counter[int]) -> int:
    """How many times are missing where these lie between those that came; 0 if they are uneven."""
    if not gaps:
        return 0
    step, count = gaps.most_common(1)[0]
    if step <= 0 or count < _MOSTLY * gaps.total():
        return 0
    return round(sum(gap * n for gap, n in gaps.items()) / step) - gaps.total()


def counted(number: int, noun: str) -> str:
    """A number and a noun, in the plural unless it is one."""
    return f"{number} {noun}{'s' * (number != 1)}"


class VideoDecoder:
    """Frames of one stream of a container, in the order of their display, from where the container
    stands to its end.

    What cannot be decoded is left out and counted in `damage`, completely once the last frame has
    come; `strict`: it is a SourceError instead. Frames before the first sound one are left out, as
    ffmpeg does; later ones that lack something they refer to are not.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: Any,
        name: str,
        broken: int = 0,
        *,
        strict: bool = False,
    ):
        """broken: in how many places the container's structure was found to be damaged so far."""
        self._container, self._stream, self._name = container, stream, name
        self._is_strict = strict
        self.damage = Damage(broken=broken)
        self.last_error = ""
        codec = stream.codec_context
        if not codec.is_open:
            codec.thread_type = "SLICE"  # an error then comes with the packet that it lies in
        # AVI has only dts: what libav makes up for it is wrong.
        self.has_pts, self._is_reordered = container.format.name != "avi", codec.has_b_frames
        self._demuxer = Demuxer(container, [stream, *container.streams.audio])
        self._marred: set[int | None] = set()  # pts
        self._size: tuple[int, int] | None = None
        self._packets = self._frames = 0  # that are to be shown, from the first frame on
        self._early: list[int | None] = []  # pts of packets before the first frame
        self._first: int | None = None  # pts of that frame
        self._is_whole = True  # whether it begins where the stream does
        self._is_interlaced = False
        self._guess_pts = PtsGuess()
        self._newest: int | None = None  # the last frame's time
        self._step = 0  # between it and the one before
        self._gaps: Counter[int] = Counter()  # between frames' times
        self._newest_dts: int | None = None  # of a packet
        self._dts_gaps: Counter[int] = Counter()  # between packets, from the first frame on

    def restarted(self) -> VideoDecoder:
        """Another for the same stream, after the container was moved to another place."""
        again = VideoDecoder(self._container, self._stream, self._name, strict=self._is_strict)
        again._is_whole = False
        return again

    @property
    def has_jumped(self) -> bool:
        """Whether times were moved, so that they are not those by which frames are found."""
        return bool(self._demuxer.jumps)

    def frames(self, latest: int | None = None) -> Iterator[VideoFrame]:
        """Yields the frames. latest: the decoding time after which no first frame is waited for."""
        # Packets that the demuxer calls damaged: pts and place. Where one recording ends and
        # another begins it says so of one of the last two, though nothing of it is missing.
        suspects: list[tuple[int | None, int]] = []
        jumps = number = 0
        for number, packet in enumerate(self._own_packets(), 1):
            if latest is not None and not self._frames and (packet.dts or 0) > latest:
                return
            if jumps != self._demuxer.jumps:
                suspects, jumps = [], self._demuxer.jumps
            if packet.is_corrupt:
                suspects.append((packet.pts, number))
            while suspects and suspects[0][1] < number - 2:
                self._count_marred(suspects.pop(0)[0])
            yield from self._decoded(packet)
        for pts, _ in suspects:
            self._count_marred(pts)
        yield from self._decoded(None)
        if self._is_whole:
            self._count_losses(number)

    def _own_packets(self) -> Iterator[Packet[Any]]:
        for packet in self._demuxer:
            if packet.stream_index == self._stream.index:
                if not self.has_pts:
                    packet.pts = None if self._is_reordered else packet.dts
                yield packet
        self.damage.broken += self._demuxer.errors
        if self._demuxer.error:
            self.damage.ended = reason(self._demuxer.error)
        if self.damage.broken or self.damage.ended:
            self._heed(self.damage.ended or "its structure is broken")

    def _decoded(self, packet: Packet[Any] | None) -> Iterator[VideoFrame]:
        """Frames that a packet completes; of None, those that the decoder still holds."""
        pts = packet.pts if packet else None
        is_early = not self._frames
        if packet:  # where a packet's own time is damaged, no gap can be told from none
            if not is_early and packet.dts is not None and self._newest_dts is not None:
                self._dts_gaps[packet.dts - self._newest_dts] += 1
            self._newest_dts = packet.dts
        if packet and not packet.is_discard:
            if is_early:
                self._early.append(pts)
            elif pts is None or self._first is None or pts > self._first:
                self._packets += 1
        # As at the beginning of a recording, between key frames.
        is_before_start = packet is not None and is_early and not packet.is_keyframe
        reported = ErrorCount()
        try:
            with reported:
                frames = self._stream.decode(packet)
        except av.error.FFmpegError as error:
            self.last_error = reason(error)
            if not is_before_start:
                self._count_marred(pts)
                if not is_early:
                    self.damage.lost += 1
                    self._packets -= 1  # no more to be missed
            return
        if reported.count and not is_before_start:
            self._count_marred(pts)
        for frame in frames:
            size = frame.width, frame.height
            if reported.count and self._size and size != self._size:  # nonsense
                continue
            if not self._frames:
                self._size, self._first = size, frame.pts
                known = [at for at in self._early if at is not None and frame.pts is not None]
                before = sum(at < frame.pts for at in known) if not self.damage.marred else 0
                self._packets = len(self._early) - before
            self._frames += 1
            self._is_interlaced = self._is_interlaced or frame.interlaced_frame
            if frame.is_corrupt:
                self._count_marred(frame.pts)
            yield frame
        if self._frames:
            self._stream.codec_context.flags |= Flags.output_corrupt

    def _count_marred(self, pts: int | None) -> None:
        """Counts what has errors, once even if both a packet and its frame do."""
        at = "" if pts is None else f" at {float(pts * (self._stream.time_base or 0)):.3f} s"
        self._heed(f"the frame{at} has errors")
        if pts is None or pts not in self._marred:
            self.damage.marred += 1
            self._marred.add(pts)

    def _heed(self, damage: str) -> None:
        if self._is_strict:
            raise SourceError(f"{self._name} is damaged: {damage}")

    def _count_losses(self, packets: int) -> None:
        """At the end: packets of which nothing came, and those that did not come themselves."""
        codec = self._stream.codec_context.codec.canonical_name
        is_sure = codec in _ONE_TO_ONE and not self._is_interlaced
        lost = missing = 0
        if is_sure or (self.damage.notes() and codec not in _WITH_HIDDEN_FRAMES):
            lost = max(self._packets - self._frames, 0)
        if self._container.format.name in _INDEXED:
            missing = sum(entry.size > 0 for entry in self._stream.index_entries) - packets
        elif self._demuxer.may_jump:
            # As packets of MPEG-TS get lost on their way: they leave gaps in times that are even.
            # Of the frame shown last only the times of decoding tell.
            missing = _missing(self._gaps) - lost - self.damage.lost
            missing = max(missing, _missing(self._dts_gaps))
        self.damage.lost += lost + max(missing, 0)
        if self.damage.lost:
            self._heed(f"{counted(self.damage.lost, 'frame')} lost")

    def shown_at(self, frame: VideoFrame) -> int | None:
        """When a frame is shown, in the stream's time base; None if nobody knows. To be asked for
        each frame in turn."""
        pts, before = self._guess_pts(frame.pts, frame.dts), self._newest
        if pts is None and not self.has_pts and before is not None:
            pts = before + self._step  # the last ones of AVI come after the last packet
        if pts is not None:
            if before is not None:
                self._gaps[pts - before] += 1
                self._step = max(pts - before, 0) or self._step
            self._newest = pts
        return pts
