"""Reads video: anything libav opens becomes planar YCbCr, RGB or grey frames of 8 to 12 bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from hnervcodec.bitstream.ancillary import Display, SegmentTimes
from hnervcodec.bitstream.fields import crc32
from hnervcodec.bitstream.headers import IDENTITY, UNSPECIFIED, VideoHeader
from hnervcodec.bitstream.timing import times_of
from hnervcodec.errors import SourceError
from hnervcodec.media import demuxing
from hnervcodec.media.colour import reformatted
from hnervcodec.media.frames import chroma_siting, display_of, frame_format, from_frame, reason
from hnervcodec.media.timestamps import PtsGuess, Stamp, straighten
from hnervcodec.planes import Planes, plane_bytes

_JPEG_RANGE = 2  # libav's AVCOL_RANGE_JPEG
MAX_DIMENSION = 65535
EARLIER, MUCH_LATER = 2, 10  # seconds
_SEVERAL_PACKETS = 50  # from which a frame rate is measured
_USUAL_RATES = [Fraction(rate) for rate in (24, 25, 30, 48, 50, 60, 90, 100, 120, 144, 240)]
_USUAL_RATES += [rate * 1000 / 1001 for rate in _USUAL_RATES if rate in (24, 30, 60, 120)]
Entry = tuple[int, int]  # a frame's pts, in its stream's time base, and the CRC-32 of its planes


@dataclass
class Damage:
    """What of a source's video could not be decoded as it was.

    lost: packets without a frame. marred: frames that came out damaged, and are coded. ended: why
    reading ended before the source did, or "".
    """

    lost: int = 0
    marred: int = 0
    ended: str = ""

    def notes(self) -> list[str]:
        """One line for people, if there is any damage."""
        parts = []
        if self.lost:
            parts.append(f"{_count(self.lost, 'damaged packet')} skipped")
        if self.marred:
            parts.append(f"{_count(self.marred, 'frame')} decoded with damage")
        if self.ended:
            parts.append(f"reading ended early ({self.ended})")
        return [f"the source is damaged: {', '.join(parts)}"] if parts else []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _is_rgb(pixels: VideoFormat) -> bool:
    """Whether a format's samples become red, green and blue without loss; CIE XYZ, as in digital
    cinema, has no other counterpart here either."""
    return pixels.is_rgb or pixels.has_palette or pixels.name.startswith("xyz")


def _native_format(name: str) -> tuple[int, int]:
    """(chroma_format, bit_depth) that loses least of libav's pixel format `name`."""
    pixels = VideoFormat(name, 64, 64)
    depth = max(component.bits for component in pixels.components)
    depth = 8 if depth <= 8 else 10 if depth <= 10 else 12
    if _is_rgb(pixels):
        return 3, depth
    components = [c for c in pixels.components if not c.is_alpha]
    if len(components) == 1:
        return 0, depth
    if components[1].width == 64:  # 4:4:0 too: 4:2:0 would halve its chroma's width
        return 3, depth
    return (1, depth) if components[1].height < 64 else (2, depth)


class VideoSource:
    """Frames of one video stream of `source`, a path or "-" for Y4M on standard input.

    stream: the number of that stream; default: the one that ffmpeg would choose. strict: whether
    damaged packets are refused, not skipped. `skip` frames are left out, then each `every`-th is
    taken, at most `limit` of them. entry: of the first of these frames, found there without
    decoding all that it follows.

    `header` describes these frames (its `frame_count` is 0), `display` how they are to be shown;
    `frames()` yields their planes once, and then `times()` and `damage` are known. `notes`: what of
    the source is lost, complete after `frames()`.

    SourceError for what cannot be opened, holds no video, or changes its geometry half-way;
    UsageError for a `stream` that is no video.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        skip: int = 0,
        limit: int | None = None,
        every: int = 1,
        entry: Entry | None = None,
        stream: int | None = None,
        strict: bool = False,
    ):
        self.name = "standard input" if str(source) == "-" else str(source)
        self._source, self._entry = str(source), entry
        self._skip, self._limit, self._every = skip, limit, every
        self._number, self._is_strict = stream, strict
        self._stamps: list[Stamp] = []  # of selected frames
        self._is_ordered = True
        self.damage = Damage()
        self._marred: set[int | None] = set()  # pts
        self.notes: list[str] = []
        self._open()
        try:
            first = next(self._decoded, None)
            if first is None:
                raise SourceError(self._why_empty())
            self._first: VideoFrame | None = first
            self._size = first.width, first.height
            self.header = self._describe(first)
            display = display_of(first)
            self.display = display or Display()
            self.notes = [*self._left_out, *self._losses(first, display)]
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if self._source == "-":
            self._container = demuxing.open_standard_input()
        else:
            self._container = demuxing.open_source(self._source)
        try:
            self._stream, self._left_out = demuxing.choose_video(
                self._container, self.name, self._number
            )
            codec = self._stream.codec_context
            if codec is None:
                codec_name = demuxing.codec_name(self._container, self._stream)
                raise SourceError(f"{self.name}: there is no decoder for {codec_name}")
        except BaseException:
            self.close()
            raise
        codec.thread_type = "SLICE"  # an error then comes with the packet that it lies in
        # AVI has none: what libav makes up for streams with B-frames is wrong.
        self._has_pts = self._container.format.name != "avi" or not codec.has_b_frames
        self._guess_pts = PtsGuess()
        self._newest: tuple[int | None, int] = (None, 0)  # the last frame's time, and its step
        timed = [self._stream, *self._container.streams.audio]
        self._demuxer = demuxing.Demuxer(self._container, timed)
        self._decoded = self._decode()

    def _why_empty(self) -> str:
        advice = demuxing.pipe_advice(self._source)
        if self.damage.lost or self.damage.ended:
            return f"cannot decode {self.name}: {self._last_error}{advice}"
        codec = demuxing.codec_name(self._container, self._stream)
        return f"{self.name} holds no video frames that the decoder of {codec} can read{advice}"

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the source's file; more than once does no harm."""
        self._container.close()

    def _decode(self, latest: int | None = None) -> Iterator[VideoFrame]:
        """`latest`: the decoding time after which no first frame is waited for."""
        is_begun = False
        # Packets that the demuxer calls damaged: pts and place. Where one recording ends and
        # another begins it says so of one of the last two, though nothing of it is missing.
        suspects: list[tuple[int | None, int]] = []
        jumps = number = 0
        for packet in self._demuxer:
            if packet.stream_index != self._stream.index:
                continue
            if latest is not None and not is_begun and (packet.dts or 0) > latest:
                return
            if jumps != self._demuxer.jumps:
                suspects, jumps = [], self._demuxer.jumps
            if packet.is_corrupt:
                suspects.append((packet.pts, number))
            while suspects and suspects[0][1] < number - 2:
                self._count_marred(suspects.pop(0)[0])
            number += 1
            if not self._has_pts:
                packet.pts = None
            for frame in self._decoded_from(packet):
                is_begun = True
                yield frame
        if self._demuxer.error:
            self._heed(self._demuxer.error)
            self.damage.ended = reason(self._demuxer.error)
        for pts, _ in suspects:
            self._count_marred(pts)
        yield from self._decoded_from(None)

    def _decoded_from(self, packet: Packet[Any] | None) -> Iterator[VideoFrame]:
        """Frames that a packet completes; of None, those that the decoder still holds."""
        try:
            frames = self._stream.decode(packet)
        except av.error.FFmpegError as error:
            self._heed(error)
            self.damage.lost += 1
            return
        for frame in frames:
            if frame.is_corrupt:
                self._count_marred(frame.pts)
            yield frame
        if frames:
            # From the first sound frame on, also those that lack something they refer to.
            self._stream.codec_context.flags |= Flags.output_corrupt

    def _heed(self, error: Exception) -> None:
        self._last_error = reason(error)
        if self._is_strict:
            raise SourceError(f"{self.name} is damaged: {self._last_error}") from error

    def _count_marred(self, pts: int | None) -> None:
        """Counts a damaged frame, once even if both its packet and itself are said to be so."""
        if self._is_strict:
            at = "" if pts is None else f" at {float(pts * (self._stream.time_base or 0)):.3f} s"
            raise SourceError(f"{self.name} is damaged: the frame{at} does not decode as it was")
        if pts is None or pts not in self._marred:
            self.damage.marred += 1
            self._marred.add(pts)

    def _rate(self) -> Fraction:
        """Frames per second, by what the source says unless its timestamps say otherwise."""
        guess = self._stream.guessed_rate
        if FormatFlags.no_timestamps in FormatFlags(self._container.format.flags) and guess:
            return Fraction(guess)
        rate = Fraction(self._stream.average_rate or guess or 25)
        base = self._stream.time_base
        if base and rate * base >= 1 and (guess != rate or base < Fraction(1, 480)):
            rate = self._measured_rate(base, rate)  # it but repeats the time base
        return rate

    def _measured_rate(self, base: Fraction, said: Fraction) -> Fraction:
        """That of the first packets, if it is far from what the source says."""
        if not Path(self._source).is_file():
            return Fraction(self._stream.guessed_rate or said)
        with demuxing.open_source(self._source) as container:
            packets = container.demux(container.streams[self._stream.index])
            stamps = [p.dts if p.pts is None or not self._has_pts else p.pts for p in packets]
            found = sorted({at for at in islice(stamps, _SEVERAL_PACKETS) if at is not None})
        if len(found) < 2:
            return said
        mean = (len(found) - 1) / ((found[-1] - found[0]) * base)
        if mean * Fraction(3, 2) > said:
            return said

        def is_on_time(rate: Fraction) -> bool:
            return all(abs((at - found[0]) * base - n / rate) <= base for n, at in enumerate(found))

        usual = [rate for rate in _USUAL_RATES if is_on_time(rate)]
        return min(usual, key=lambda rate: abs(rate - mean), default=mean.limit_denominator(1001))

    def _describe(self, frame: VideoFrame) -> VideoHeader:
        if max(frame.width, frame.height) > MAX_DIMENSION:
            raise SourceError(f"{self.name}: {frame.width}x{frame.height} frames are too large")
        name = frame.format.name
        chroma_format, bit_depth = _native_format(name)
        is_rgb = _is_rgb(frame.format)
        matrix = IDENTITY if is_rgb else _code(frame.colorspace)
        rate = self._rate().limit_denominator(1_000_000)
        aspect = self._stream.sample_aspect_ratio or Fraction(0)
        if max(aspect.numerator, aspect.denominator) > 65535:
            aspect = Fraction(0)
        header = VideoHeader(
            width=frame.width,
            height=frame.height,
            chroma_format=chroma_format,
            frame_rate=(rate if rate > 0 else Fraction(25)) / self._every,
            bit_depth=bit_depth,
            chroma_siting=chroma_siting(self._container, self._stream),
            full_range=is_rgb or name.startswith("yuvj") or frame.color_range == _JPEG_RANGE,
            colour_primaries=_code(frame.color_primaries),
            transfer_characteristics=_code(frame.color_trc),
            # The identity matrix of what is not RGB, as of a grey PNG, says nothing.
            matrix_coefficients=UNSPECIFIED if matrix == IDENTITY and not is_rgb else matrix,
            sample_aspect=(aspect.numerator, aspect.denominator) if aspect else (0, 0),
        )
        self._format = frame_format(header)
        return header

    def _losses(self, frame: VideoFrame, display: Display | None) -> list[str]:
        notes = []
        if display is None:
            notes.append(f"the rotation by {frame.rotation} degrees is not coded")
        if frame.interlaced_frame:
            notes.append("interlaced frames are coded as if they were progressive")
        # VP8 and VP9 hold it beside the picture in each packet, where libav's decoders leave it.
        if self._stream.metadata.get("alpha_mode") == "1" or _is_seen_through(frame):
            notes.append(_TRANSPARENCY)
        depth = max(component.bits for component in frame.format.components)
        is_same = frame.format.is_rgb or frame.format.has_palette
        is_same = is_same or frame.format.name.replace("yuvj", "yuv") == self._format
        if not is_same or depth > self.header.bit_depth:
            notes.append(f"{frame.format.name} is converted to {self._format}")
        if self._is_without_rate():
            notes.append("the stream does not say its frame rate: 25 frames/s are taken")
        return notes

    def _is_without_rate(self) -> bool:
        """Whether a raw stream is read at libav's default of 25 frames/s because it says none."""
        form = self._container.format
        is_raw = FormatFlags.no_timestamps in FormatFlags(form.flags)
        if not is_raw or self._stream.guessed_rate != 25 or not Path(self._source).is_file():
            return False
        with demuxing.open_source(self._source, format=form.name, options={"framerate": "24"}) as c:
            stream: Any = c.streams[self._stream.index]
            return bool(stream.guessed_rate == 24)

    def times(self) -> SegmentTimes | None:
        """When the frames that `frames()` has yielded are shown; None: at the constant rate. From 0
        on if `skip` leaves any out, else when the source shows them. Adds notes of timestamps that
        were missing or did not increase."""
        base, rate = self._stream.time_base, self.header.frame_rate
        if base is None or not any(pts is not None for pts, _ in self._stamps):
            return None
        stamps, missing, moved = straighten(self._stamps, 1 / (rate * base))
        if missing:
            self.notes.append(f"{_count(missing, 'timestamp')} missing: taken from the others")
        if moved:
            self.notes.append(f"{_count(moved, 'timestamp')} out of order: moved")
        start = self._origin if self._skip == 0 else stamps[0][0]
        return times_of(base, [(pts - start, duration) for pts, duration in stamps], rate)

    def window(self) -> tuple[Fraction, Fraction | None, Fraction | None]:
        """The source's time, in seconds, that is 0 here, and between which times the frames lie
        that `frames()` has yielded; None: from the very beginning, to the very end."""
        base = self._stream.time_base or Fraction(1)
        first, last = (0, 0), (0, 0)
        if any(pts is not None for pts, _ in self._stamps):
            stamps, _, _ = straighten(self._stamps, 1 / (self.header.frame_rate * base))
            first, last = stamps[0], stamps[-1]
        begin = None if self._skip == 0 else first[0] * base
        duration = max(last[1] * base, 1 / self.header.frame_rate)
        end = None if self._is_read_out else last[0] * base + duration
        return self._origin * base if begin is None else begin, begin, end

    @property
    def _origin(self) -> int:
        """Where time begins, in the stream's time base."""
        return round(demuxing.start(self._container) / (self._stream.time_base or 1))

    def entry(self, planes: Planes) -> Entry | None:
        """Where the frame is that `frames()` has just yielded; None if it has no timestamp."""
        pts, _ = self._stamps[-1]
        return None if pts is None else (pts, crc32(plane_bytes(planes)))

    @property
    def tells_frames_apart(self) -> bool:
        """Whether all of the source's frames have been seen, and their timestamps increase."""
        return self._is_ordered and self._is_read_out and not self._demuxer.jumps

    @property
    def _is_read_out(self) -> bool:
        """Whether `frames()` went on to the source's end."""
        return self._limit is None or len(self._stamps) < self._limit

    def _from_entry(self, entry: Entry) -> Iterator[VideoFrame] | None:
        """The frames from there on, if the one there is the same when decoding begins at a key
        frame before it: some streams have none that deserve the name."""
        base = self._stream.time_base or Fraction(1)
        for back in (0, round(EARLIER / base)):  # as some indices order frames as they are coded
            with suppress(av.error.FFmpegError, SourceError):
                self._container.seek(entry[0] - back, stream=self._stream)
                self._demuxer = self._demuxer.again()
                self._decoded = self._decode(entry[0] + round(MUCH_LATER / base))
                for frame in self._decoded:
                    if frame.is_corrupt:  # for want of what lies before the key frame
                        continue
                    if frame.pts == entry[0]:
                        planes = from_frame(self._to_native(frame), self.header)
                        is_same = crc32(plane_bytes(planes)) == entry[1]
                        self.damage = Damage()  # before it, where nobody looks
                        return chain([frame], self._decoded) if is_same else None
                    if frame.pts is None or frame.pts > entry[0]:
                        break
        return None

    def _numbered(self) -> Iterator[tuple[int, VideoFrame]]:
        """The source's frames with their numbers, at the latest from the first selected one on."""
        if self._entry:
            found = self._from_entry(self._entry)
            if found:
                return enumerate(found, self._skip)
            self.close()
            self._open()
            self._first, self.damage = None, Damage()
        return enumerate(self._all_frames())

    def frames(self) -> Iterator[Planes]:
        """Yields the planes of each selected frame."""
        newest = None
        for index, frame in self._numbered():
            is_later = frame.pts is not None and (newest is None or frame.pts > newest)
            self._is_ordered, newest = self._is_ordered and is_later, frame.pts
            pts = self._shown_at(frame)
            if index < self._skip or (index - self._skip) % self._every:
                continue
            if self._limit is not None and index >= self._skip + self._limit * self._every:
                break
            if (frame.width, frame.height) != self._size:
                raise SourceError(
                    f"{self.name}: frame {index} is {frame.width}x{frame.height}, the first was "
                    f"{self._size[0]}x{self._size[1]}"
                )
            # Of every so many each is shown for longer than its own duration.
            duration = (frame.duration or 0) if self._every == 1 else 0
            self._stamps.append((pts, duration))
            if _TRANSPARENCY not in self.notes and _is_seen_through(frame):
                self.notes.append(_TRANSPARENCY)
            yield from_frame(self._to_native(frame), self.header)
        self.notes += self.damage.notes()

    def _shown_at(self, frame: VideoFrame) -> int | None:
        """The time of the frame after the one that this was asked for before."""
        pts, (before, step) = self._guess_pts(frame.pts, frame.dts), self._newest
        if pts is None and not self._has_pts and before is not None:
            pts = before + step  # the last ones of AVI come after the last packet
        if pts is not None:
            gap = step if before is None else pts - before
            self._newest = pts, gap if gap > 0 else step
        return pts

    def _all_frames(self) -> Iterator[VideoFrame]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._decoded

    def _to_native(self, frame: VideoFrame) -> VideoFrame:
        name = frame.format.name
        if name.replace("yuvj", "yuv") == self._format:
            return frame
        if name.startswith("yuvj"):  # else swscale takes the result's range for another
            frame.color_range = _JPEG_RANGE
        return reformatted(frame, self._format)


def count_until(source: str | Path, seconds: Fraction, stream: int | None = None) -> int:
    """How many frames of a source begin before a time that counts from the first one's. stream: as
    `VideoSource` takes it."""
    with VideoSource(source, stream=stream) as video:
        base = video._stream.time_base or 1 / video.header.frame_rate
        first, count = None, 0
        for number, frame in enumerate(video._all_frames()):
            at = video._shown_at(frame)
            if at is None:
                at = round(number / video.header.frame_rate / base)
            first = at if first is None else first
            if (at - first) * base >= seconds:
                break
            count += 1
        return count


_TRANSPARENCY = "transparency is not coded"


def _is_seen_through(frame: VideoFrame) -> bool:
    """Whether any sample of a frame is transparent."""
    pixels = frame.format
    if not pixels.has_palette and not any(component.is_alpha for component in pixels.components):
        return False
    plane = reformatted(frame, "rgba").planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return bool((rows[: frame.height, 3 : 4 * frame.width : 4] < 255).any())


def _code(value: object) -> int:
    """An H.273 code as libav reports it."""
    number = int(value)  # type: ignore[call-overload]
    return number if 0 <= number <= 255 else UNSPECIFIED
