"""File -> any frame, in any order, checked against its CRC."""

from __future__ import annotations

import io
import math
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, overload

from hnervcodec import segment as segments
from hnervcodec.bitstream import crc32
from hnervcodec.container import IndexEntry, Reader
from hnervcodec.errors import FileError, UsageError
from hnervcodec.planes import Planes, plane_bytes, unpack
from hnervcodec.segment import QuantizedSegment
from hnervcodec.syntax import VideoHeader
from hnervcodec.synthesis import Synthesis

CACHED_SEGMENTS = 2


class Decoder:
    """Random access to the frames of a `.hnv` file.

    `source`: a path, the file's bytes, a seekable binary file, or an open `Reader`, whose own
    `recover` and `max_level` then count. `path`, `device` and `threads` choose the arithmetic (see
    `Synthesis`); the frames are the same for all of them.

    >>> with Decoder("bunny.hnv") as decoder:
    ...     y, cb, cr = decoder[10]          # uint8 [H, W], [ceil(H/2), ceil(W/2)] twice
    """

    def __init__(
        self,
        source: str | Path | bytes | BinaryIO | Reader,
        *,
        recover: bool = False,
        max_level: int | None = None,
        path: str = "auto",
        device: str = "cpu",
        threads: int | None = None,
    ):
        self._owned: BinaryIO | None = None
        if isinstance(source, str | Path):
            source = self._owned = open(source, "rb")  # noqa: SIM115  (closed by `close`)
        try:
            if isinstance(source, bytes):
                source = io.BytesIO(source)
            if not isinstance(source, Reader):
                source = Reader(source, recover=recover, max_level=max_level)
        except BaseException:
            self.close()
            raise
        self.reader = source
        self._starts = [entry.first_frame for entry in source.index]
        self._arithmetic: dict[str, Any] = {"path": path, "device": device, "threads": threads}
        self._cache: OrderedDict[int, tuple[QuantizedSegment, Synthesis]] = OrderedDict()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._owned:
            self._owned.close()

    @property
    def video(self) -> VideoHeader:
        return self.reader.video

    def __len__(self) -> int:
        """Frames of the video, whether or not `recover` found all of them."""
        return self.video.frame_count

    def __getitem__(self, index: int) -> Planes:
        """The planes of one frame; negative indices count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return next(self.frames([index % len(self)]))[1]

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
        snapped = map(self._snapped, positions)
        for entry, group in groupby(snapped, key=lambda at: self._entry_of(math.floor(at))):
            segment, synthesis = self._load(entry)
            wanted = [position - entry.first_frame for position in group]
            done = iter(wanted)
            for batch in synthesis.batches(wanted):
                for packed in batch:
                    local, video = next(done), self.video
                    planes = unpack(packed, video.chroma_format, video.width, video.height)
                    if isinstance(local, int) and (
                        crc32(plane_bytes(planes)) != int(segment.frame_crcs[local])
                    ):
                        raise FileError(
                            f"frame {entry.first_frame + local} does not decode to its checksum",
                            element="frame_crc",
                        )
                    yield entry.first_frame + local, planes

    def is_intact(self, position: int | Fraction) -> bool:
        """Whether that frame lies in a segment that `recover` found whole."""
        index = math.floor(self._snapped(position))
        return index in self._entry_before(index).frames

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
        return self._load(self._entry_of(index))[1].paths

    def _entry_of(self, index: int) -> IndexEntry:
        entry = self._entry_before(index)
        if index in entry.frames:
            return entry
        raise FileError(f"frame {index} is lost: its segment is damaged or missing")

    def _load(self, entry: IndexEntry) -> tuple[QuantizedSegment, Synthesis]:
        if entry.offset in self._cache:
            self._cache.move_to_end(entry.offset)
            return self._cache[entry.offset]
        payload = self.reader.segment_payload(entry)
        segment = segments.read(payload, self.video, self.reader.level)
        synthesis = Synthesis(segment, self.video, **self._arithmetic)
        self._cache[entry.offset] = segment, synthesis
        if len(self._cache) > CACHED_SEGMENTS:
            self._cache.popitem(last=False)
        return segment, synthesis


MOST_MADE = 100  # frames per coded one


def retimed(
    video: VideoHeader, frame_rate: Fraction | None, slow_motion: Fraction
) -> tuple[VideoHeader, list[int | Fraction]]:
    """Header and positions of the whole video at another frame rate, and `slow_motion` times as
    long. The last frame is held for as long as it was."""
    rate = video.frame_rate if frame_rate is None else frame_rate
    if not 0 < rate <= 1 << 20 or rate.denominator >= 1 << 20 or slow_motion <= 0:
        raise UsageError(f"{rate} frames per second, {slow_motion} times as slow, is out of range")
    step = video.frame_rate / rate / slow_motion
    if not Fraction(1, MOST_MADE) <= step <= video.frame_count:
        raise UsageError(
            f"one frame per {float(step):.3g} coded ones is asked for: "
            f"not in 1/{MOST_MADE}..{video.frame_count}"
        )
    positions: list[int | Fraction] = []
    for n in range(math.ceil(video.frame_count / step)):
        position = min(n * step, Fraction(video.frame_count - 1))
        positions.append(position.numerator if position.denominator == 1 else position)
    return replace(video, frame_rate=rate, frame_count=len(positions)), positions


_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(-?\d+))?")


def parse_frames(text: str, count: int) -> list[int]:
    """Frame numbers of a selection such as `7`, `10-20` (inclusive), `10:20:2` (a Python slice)
    or a list of these, `3,9,20-22`, in the order written. `count`: frames in the file."""
    selected: list[int] = []
    for part in text.split(","):
        part = part.strip()
        if match := _RANGE.fullmatch(part):
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise UsageError(f"frames {part!r}: the range ends before it starts")
            if last >= count:
                raise UsageError(f"frames {part!r}: the last frame is {count - 1}")
            selected += range(first, last + 1)
        elif match := _SLICE.fullmatch(part):
            start, stop, step = (int(field) if field else None for field in match.groups())
            if step == 0:
                raise UsageError(f"frames {part!r}: the step is 0")
            selected += range(count)[start:stop:step]
        else:
            raise UsageError(f"frames {part!r}: write 7, 10-20, 10:20:2 or a list of these")
    if not selected:
        raise UsageError(f"frames {text!r} select nothing of {count} frames")
    return selected
