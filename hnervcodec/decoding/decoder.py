"""`Decoder`: random access to the frames of a `.hnv` file, each checked against its checksum."""

from __future__ import annotations

import io
import math
import os
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, overload

import numpy as np

from hnervcodec.bitstream import segment as segments
from hnervcodec.bitstream.container import IndexEntry
from hnervcodec.bitstream.fields import crc32
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.reader import Reader
from hnervcodec.bitstream.segment import QuantizedSegment
from hnervcodec.bitstream.timing import FrameTimes
from hnervcodec.decoding.frames import Frame, FrameBatch, VideoMetadata
from hnervcodec.decoding.rgb import RgbWriter, rgb_writer
from hnervcodec.decoding.segment_cache import SEGMENTS, Loaded
from hnervcodec.errors import FileError, UsageError
from hnervcodec.planes import Planes, plane_bytes, unpack
from hnervcodec.synthesis.network import Synthesis
from hnervcodec.system import numbers

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Decoder:
    """Random access to the frames of a `.hnv` file, in the words of torchcodec's `VideoDecoder`.

    source: a path, the file's bytes, a seekable binary file (of which only what is needed is read,
    so that fsspec's and HTTP range readers serve), or an open `Reader`, whose own `recover` and
    `max_level` then count.
    crop: what to keep of frames in RGB, (top, left, height, width) in pixels; None: all of them.
    resize: (height, width) to which frames in RGB are then scaled, bicubic; None: as they are.
    dimension_order: of frames in RGB, "NCHW" or "NHWC".
    output_dtype: of frames in RGB, `torch.uint8` or `torch.float32` of 0..1; None: uint8.
    device: where frames in RGB are to be and where torch, if it is not the CPU, computes them.
    path, threads: the arithmetic (see `Synthesis`); the frames are the same for all of them.
    cache_bytes: memory that the loaded segments of all decoders of this process may hold together,
    from now on (`segment_cache.CACHE_BYTES`, 256 MiB, until one says otherwise); the segment in use
    may be larger than that. None: as it was.

    >>> with Decoder("bunny.hnv") as decoder:
    ...     decoder[10]                                  # uint8 [3, H, W], RGB
    ...     decoder.get_frames_in_range(10, 20).data     # uint8 [10, 3, H, W]
    ...     decoder.get_frame_played_at(0.41).index
    ...     y, cb, cr = decoder.get_planes_at(10)        # numpy, as decoded, without torch

    Threads may share a decoder; it can be pickled if its source can, and used in worker processes.
    Frames that fail their checksum raise `FileError`.

    What differs from torchcodec: frames between frames (`interpolate`), planes, `crop`, `resize`,
    `output_dtype`, `iter_batches` and `index` are added; `num_ffmpeg_threads`, `seek_mode`,
    `stream_index`, `transforms` and `custom_frame_mappings` do not exist, as there is one stream
    and every seek is exact.
    """

    def __init__(
        self,
        source: str | Path | bytes | BinaryIO | Reader,
        *,
        crop: tuple[int, int, int, int] | None = None,
        resize: tuple[int, int] | None = None,
        dimension_order: Literal["NCHW", "NHWC"] = "NCHW",
        output_dtype: torch.dtype | None = None,
        device: str = "cpu",
        recover: bool = False,
        max_level: int | None = None,
        path: str = "auto",
        threads: int | None = None,
        cache_bytes: int | None = None,
    ):
        if dimension_order not in ("NCHW", "NHWC"):
            raise UsageError(f"unknown dimension_order {dimension_order!r}: NCHW or NHWC")
        if str(output_dtype) not in ("None", "torch.uint8", "torch.float32"):
            raise UsageError(f"output_dtype {output_dtype} is neither uint8 nor float32")
        if cache_bytes is not None:
            SEGMENTS.limit = numbers.whole("cache_bytes", cache_bytes)
        self._settings: dict[str, Any] = {
            "crop": _sizes("crop", crop, 4),
            "resize": _sizes("resize", resize, 2),
            "dimension_order": dimension_order,
            "output_dtype": output_dtype,
            "device": device,
            "recover": recover,
            "max_level": _whole_or_none("max_level", max_level),
            "path": path,
            "threads": _whole_or_none("threads", threads),
            "cache_bytes": cache_bytes,
        }
        self._source = source
        self._lock = RLock()
        self._owned: BinaryIO | None = None
        self._is_closed = False
        self._open()

    def _open(self) -> None:
        source: Any = self._source
        # What the cache knows this file by: a path's, if it is opened again, as the same.
        self._identity: tuple[Hashable, ...] = (object(),)
        self._keys: dict[int, tuple[Hashable, ...]] = {}  # and its segments, by their offset
        if isinstance(source, str | Path):
            source = self._owned = open(source, "rb")  # noqa: SIM115  (closed by `close`)
            weakref.finalize(self, source.close)
            facts = os.fstat(source.fileno())
            self._identity = facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
        try:
            if isinstance(source, bytes):
                source = io.BytesIO(source)
            if not isinstance(source, Reader):
                recover, max_level = self._settings["recover"], self._settings["max_level"]
                source = Reader(source, recover=recover, max_level=max_level)
        except BaseException:
            self.close()
            raise
        self._reader: Reader = source
        self._starts = [entry.first_frame for entry in source.index]
        self._check_crop(source.video)
        self._to_rgb: RgbWriter | None = None
        self._process = os.getpid()

    def _check_crop(self, video: VideoHeader) -> None:
        if crop := self._settings["crop"]:
            top, left, height, width = crop
            if top + height > video.height or left + width > video.width:
                self.close()
                raise UsageError(f"crop {crop} leaves the frame of {video.width}x{video.height}")

    def __getstate__(self) -> dict[str, Any]:
        self._check_open()
        return {"_source": self._source, "_settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_source"], **state["_settings"])  # type: ignore[misc]

    def _after_fork(self) -> None:
        """Open the file again in a forked process, which shares its parent's position in the file
        and has none of its threads."""
        self._check_open()
        if self._process != os.getpid():
            if not isinstance(self._source, str | Path | bytes):
                raise UsageError(
                    "a decoder of an open file cannot be used in another process: give it a path"
                )
            self._lock = RLock()
            self._open()

    def __enter__(self) -> Decoder:
        self._check_open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if the decoder opened it. All else then raises UsageError."""
        self._is_closed = True
        if self._owned:
            self._owned.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError("the decoder is closed")

    @property
    def reader(self) -> Reader:
        """The opened file: its header, its index, and what goes with the frames."""
        self._check_open()
        return self._reader

    @property
    def video(self) -> VideoHeader:
        """Size, format, colours, frame rate and number of frames."""
        return self.reader.video

    def __len__(self) -> int:
        """Frames of the video, whether or not `recover` found all of them."""
        return self.video.frame_count

    @property
    def metadata(self) -> VideoMetadata:
        """Facts of the video under torchcodec's names."""
        video, times = self.video, self.times
        seconds = float(times.end - times.begin)
        aspect = Fraction(*video.sample_aspect) if video.sample_aspect[1] else None
        return VideoMetadata(
            video.width,
            video.height,
            len(self),
            float(times.frame_count / (times.end - times.begin)),
            seconds,
            8 * self.reader.size / seconds,
            aspect,
            begin_stream_seconds=float(times.begin),
            end_stream_seconds=float(times.end),
        )

    @property
    def times(self) -> FrameTimes:
        """When frames are shown. Of a damaged file of variable rate: as far as the last frame that
        is there, or, where a frame or the times before it are lost, at the constant rate."""
        with self._lock:
            return self.reader.frame_times

    def __getitem__(self, key: int | slice) -> Tensor:
        """One frame in RGB, [3, H, W], or with a slice several, [N, 3, H, W]."""
        if isinstance(key, slice):
            return self._batch(range(len(self))[key]).data
        return self.get_frame_at(key).data

    def __iter__(self) -> Iterator[Tensor]:
        """Every frame in RGB."""
        for batch in self.iter_batches(8):
            yield from batch.data

    def iter_batches(self, size: int) -> Iterator[FrameBatch]:
        """All frames, `size` at a time; the last batch may be shorter."""
        size = numbers.whole("size", size)
        if size < 1:
            raise UsageError(f"batches of {size} frames: there must be at least one")
        for start in range(0, len(self), size):
            yield self._batch(range(start, min(start + size, len(self))))

    def get_frame_at(self, index: int) -> Frame:
        """Frame `index`; negative ones count from the end. IndexError if there is none."""
        return self._batch([self._checked(index)])[0]

    def get_frames_at(self, indices: Sequence[int] | Tensor) -> FrameBatch:
        """Frames `indices`, in this order; negative ones count from the end. IndexError if there is
        none."""
        return self._batch([self._checked(index) for index in indices])

    def get_frames_in_range(self, start: int, stop: int, step: int = 1) -> FrameBatch:
        """Frames start, start + step .. before stop. IndexError where they leave the video."""
        start, stop = numbers.whole("start", start), numbers.whole("stop", stop)
        step = numbers.whole("step", step)
        if not 0 <= start <= stop <= len(self) or step < 1:
            raise IndexError(f"frames {start}:{stop}:{step} of {len(self)}")
        return self._batch(range(start, stop, step))

    def get_all_frames(self) -> FrameBatch:
        """Every frame of the video at once, in RGB."""
        return self._batch(range(len(self)))

    def get_frame_played_at(self, seconds: float, *, interpolate: bool = False) -> Frame:
        """The frame shown at that time; with `interpolate` what the network makes of the very
        moment (see `frames`). IndexError outside of the video's begin <= seconds < end, but at its
        very begin there is a frame even where a float cannot tell the two."""
        return self.get_frames_played_at([seconds], interpolate=interpolate)[0]

    def get_frames_played_at(
        self, seconds: Sequence[float] | Tensor, *, interpolate: bool = False
    ) -> FrameBatch:
        """The frames shown at several times, in this order: `get_frame_played_at` for each."""
        positions = [self._position(at) for at in seconds]
        if not interpolate:
            return self._batch([math.floor(at) for at in positions])
        last = Fraction(self.times.frame_count - 1)
        return self._batch([min(at.limit_denominator(1 << 16), last) for at in positions])

    def get_frames_played_in_range(self, start_seconds: float, stop_seconds: float) -> FrameBatch:
        """Every frame that is shown at some time of start <= time < stop. ValueError if these are
        out of order or outside of the video."""
        start_seconds = float(numbers.real("start_seconds", start_seconds))
        stop_seconds = float(numbers.real("stop_seconds", stop_seconds))
        begin, end = float(self.times.begin), float(self.times.end)
        if not begin <= start_seconds <= stop_seconds <= end or start_seconds >= end:
            raise ValueError(f"{start_seconds}..{stop_seconds} s is not within {begin}..{end} s")
        if start_seconds == stop_seconds:
            return self._batch([])
        first = math.floor(self._position(start_seconds))
        last = first
        while last + 1 < self.times.frame_count and self._pts(last + 1) < stop_seconds:
            last += 1
        return self._batch(range(first, last + 1))

    def get_planes_at(self, index: int) -> Planes:
        """Y, Cb, Cr of a frame as decoded (or Y alone): uint8 [H, W] and chroma as subsampled,
        uint16 above 8 bits."""
        return next(self.frames([self._checked(index)]))[1]

    def _checked(self, index: int) -> int:
        index = numbers.whole("index", index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return index % len(self)

    def _pts(self, position: int | Fraction) -> float:
        return float(self.times.pts(position))

    def _position(self, seconds: float) -> Fraction:
        """The position, in frames, that is shown at `seconds`; of `_pts(n)` it is n, whatever
        rounding to a float lost."""
        if not isinstance(seconds, float):
            seconds = float(numbers.real("seconds", seconds))
        begin, end = float(self.times.begin), float(self.times.end)
        if not (begin <= seconds < end or seconds == begin):
            raise IndexError(f"{seconds} s is not within {begin}..{end} s")
        position = self.times.position(Fraction(seconds))
        near = min(round(position), self.times.frame_count - 1)
        return Fraction(near) if self._pts(near) == seconds else position

    def _batch(self, positions: Sequence[int | Fraction]) -> FrameBatch:
        import torch

        to_rgb = self._rgb_writer()
        size, count = to_rgb.shape, len(positions)
        channels_first = self._settings["dimension_order"] == "NCHW"
        data = np.empty((count, 3, *size) if channels_first else (count, *size, 3), np.uint8)
        places: dict[int | Fraction, list[int]] = {}
        for n, at in enumerate(positions):
            places.setdefault(at, []).append(n)
        ordered = sorted(places)  # so that each segment is needed once

        def write(n: int, packed: np.ndarray) -> int:
            first, *others = places[ordered[n]]
            out = data[first]
            checksum = to_rgb.write(packed, out if channels_first else out.transpose(2, 0, 1))
            for other in others:
                data[other] = out
            return checksum

        self._each(ordered, write)
        shown, times = [math.floor(at) for at in positions], self.times
        frames = torch.from_numpy(data).to(self._settings["device"])
        if self._settings["output_dtype"] == torch.float32:
            scaled = torch.empty_like(frames, dtype=torch.float32)
            frames = torch.div(frames, 255, out=scaled)
        return FrameBatch(  # whose numbers numpy makes tensors of faster than torch does
            frames,
            torch.from_numpy(np.array([float(times.pts(at)) for at in positions], np.float64)),
            torch.from_numpy(np.array([float(times.duration(n)) for n in shown], np.float64)),
            torch.from_numpy(np.array(shown, np.int64)),
        )

    def _rgb_writer(self) -> RgbWriter:
        self._after_fork()
        with self._lock:
            if self._to_rgb is None:
                settings = self._settings
                self._to_rgb = rgb_writer(self.video, settings["crop"], settings["resize"])
            return self._to_rgb

    @overload
    def frames(self, positions: Sequence[int]) -> Iterator[tuple[int, Planes]]: ...
    @overload
    def frames(
        self, positions: Sequence[int | Fraction]
    ) -> Iterator[tuple[int | Fraction, Planes]]: ...
    def frames(
        self, positions: Sequence[int | Fraction]
    ) -> Iterator[tuple[int | Fraction, Planes]]:
        """(position, planes) of each requested frame, in the requested order.

        A fraction is a moment between two frames: 10.5 lies half-way from frame 10 to 11, and the
        network makes what it would show there. No checksum covers such a frame. Where the two
        frames belong to different segments, the nearer one is repeated; after the last, the last.
        Frames of one segment that are asked for in a row share forward passes.
        """
        video = self.video
        for entry, group in self._by_segment(positions):
            segment, synthesis = self._load(entry)
            done = iter(group)
            for batch in synthesis.batches(group):
                for packed in batch:
                    local = next(done)
                    planes = unpack(packed, video.chroma_format, video.width, video.height)
                    _check(entry, segment, local, crc32(plane_bytes(planes)))
                    yield entry.first_frame + local, planes

    def _each(
        self, positions: Sequence[int | Fraction], take: Callable[[int, np.ndarray], int]
    ) -> None:
        """Calls take(n, packed samples), which returns the CRC-32 of the planes, for each of
        `positions`, n being its place among them; see `Synthesis.each`."""
        begin = 0
        for entry, group in self._by_segment(positions):
            segment, synthesis = self._load(entry)

            def taken(
                n: int,
                packed: np.ndarray,
                begin: int = begin,
                entry: IndexEntry = entry,
                segment: QuantizedSegment = segment,
                group: Sequence[int | Fraction] = group,
            ) -> None:
                _check(entry, segment, group[n], take(begin + n, packed))

            synthesis.each(group, taken)
            begin += len(group)

    def _by_segment(
        self, positions: Iterable[int | Fraction]
    ) -> Iterator[tuple[IndexEntry, list[int | Fraction]]]:
        """Segments, and which positions in them are asked for in a row."""
        self._after_fork()
        snapped = map(self._snapped, map(_exact_position, positions))
        for entry, group in groupby(snapped, key=lambda at: self._entry_of(math.floor(at))):
            yield entry, [position - entry.first_frame for position in group]

    def is_intact(self, position: int | Fraction) -> bool:
        """Whether that frame lies in a segment that `recover` found whole."""
        index = math.floor(self._snapped(_exact_position(position)))
        return index in self._entry_before(index).frames

    def intact(self, positions: Sequence[int | Fraction]) -> list[range]:
        """Which of `positions`, which ascend, lie in segments that `recover` found whole: ranges of
        their places among the positions."""
        parts = [entry.frames for entry in self.reader.index]
        whole = [parts[0].start, *(b.start for a, b in pairwise(parts) if a.stop != b.start)]
        ends = [*(a.stop for a, b in pairwise(parts) if a.stop != b.start), parts[-1].stop]
        if positions != range(len(self)):
            places = range(len(positions))

            def frame(place: int) -> int:
                return math.floor(self._snapped(positions[place]))

            whole = [bisect_left(places, at, key=frame) for at in whole]
            ends = [bisect_left(places, at, key=frame) for at in ends]
        return [range(begin, end) for begin, end in zip(whole, ends, strict=True) if begin < end]

    def _entry_before(self, index: int) -> IndexEntry:
        """The last segment that starts at or before frame `index`, else the first."""
        return self.reader.index[max(0, bisect_right(self._starts, index) - 1)]

    def _snapped(self, position: int | Fraction) -> int | Fraction:
        """`position`, or the nearest frame where nothing lies between two frames."""
        before = math.floor(position)
        if before == position:
            return before
        if before + 1 in self._entry_before(before).frames:
            return position
        return before if before + 1 == len(self) else math.floor(position + Fraction(1, 2))

    def arithmetic(self, index: int = 0) -> dict[str, str]:
        """The arithmetic path of each layer in the segment that holds frame `index`."""
        self._after_fork()
        return self._load(self._entry_of(numbers.whole("index", index)))[1].paths

    def _entry_of(self, index: int) -> IndexEntry:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        entry = self._entry_before(index)
        if index in entry.frames:
            return entry
        raise FileError(f"frame {index} is lost: its segment is damaged or missing")

    def _load(self, entry: IndexEntry) -> Loaded:
        arithmetic = {name: self._settings[name] for name in ("path", "device", "threads")}

        def load() -> Loaded:
            payload = self.reader.segment_payload(entry)
            segment = segments.read(payload, self.video, self.reader.level)
            return segment, Synthesis(segment, self.video, **arithmetic)

        with self._lock:
            key = self._keys.get(entry.offset)
            if key is None:
                key = *self._identity, entry.offset, *arithmetic.values()
                if self._owned is not None:  # another file may have got its place, size and time
                    key = *key, self.reader.stated_checksum(entry)
                self._keys[entry.offset] = key
            return SEGMENTS.get(key, load)


def _check(
    entry: IndexEntry, segment: QuantizedSegment, local: int | Fraction, checksum: int
) -> None:
    """FileError unless frame `local` of the segment has this CRC-32; what lies between two frames
    has none."""
    if isinstance(local, int) and checksum != int(segment.frame_crcs[local]):
        raise FileError(
            f"frame {entry.first_frame + local} does not decode to its checksum",
            element="frame_crc",
        )


def _sizes(name: str, value: Sequence[int] | None, count: int) -> tuple[int, ...] | None:
    """`count` whole numbers, the last two of them at least 1; UsageError if they are not."""
    if value is None:
        return None
    sizes = tuple(numbers.whole(name, size) for size in value)
    if len(sizes) != count or min(sizes[-2:]) < 1 or min(sizes) < 0:
        meaning = "(top, left, height, width)" if count == 4 else "(height, width)"
        raise UsageError(f"{name} {sizes} is not {meaning} of a picture")
    return sizes


def _whole_or_none(name: str, value: int | None) -> int | None:
    return None if value is None else numbers.whole(name, value)


def _exact_position(position: int | Fraction) -> int | Fraction:
    """Of numpy's and torch's numbers the int or the fraction that they are."""
    if isinstance(position, int):
        return position
    exact = numbers.exact("position", position)
    return exact.numerator if exact.denominator == 1 else exact
