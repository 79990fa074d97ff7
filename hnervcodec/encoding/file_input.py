"""The frames that an encode is asked to code: which source, which of its frames, which mask."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import accumulate, islice
from typing import Any

from hnervcodec.bitstream.ancillary import (
    Display,
    SegmentTimes,
    StreamInfo,
    StreamPacket,
    read_display,
    write_display,
)
from hnervcodec.bitstream.fields import ByteReader
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.side_data import SideData
from hnervcodec.encoding.defaults import SEGMENT_FRAMES
from hnervcodec.errors import SourceError, UsageError
from hnervcodec.media.masks import read_masks
from hnervcodec.media.scenes import scan
from hnervcodec.media.source import Entry, VideoSource, count_until
from hnervcodec.media.streams import read_streams
from hnervcodec.planes import Planes


@dataclass(frozen=True)
class Scan:
    """What a look at all frames has found: the segments' lengths, where their first frames are
    (if all are to be found again), when the frames are shown (None: at a constant rate), the
    source's time they take (see `VideoSource.window`), how they are to be shown, notes of what is
    lost, and among these those of damage."""

    lengths: tuple[int, ...]
    entries: tuple[Entry, ...]
    times: SegmentTimes | None
    window: tuple[Fraction, Fraction | None, Fraction | None]
    display: Display
    notes: tuple[str, ...]
    damage: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """As the job folder keeps it."""
        times = self.times and [
            str(self.times.time_base),
            self.times.first_pts,
            self.times.durations,
        ]
        window = [None if at is None else str(at) for at in self.window]
        display = write_display(self.display).hex()
        notes = self.notes, self.damage
        return json.dumps([self.lengths, self.entries, times, window, display, notes]).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Scan:
        """Inverse of `to_bytes`."""
        lengths, entries, times, (zero, begin, end), display, (notes, damage) = json.loads(data)
        if times:
            times = SegmentTimes(Fraction(times[0]), times[1], tuple(times[2]))
        return cls(
            tuple(lengths),
            tuple((pts, crc) for pts, crc in entries),
            times or None,
            (Fraction(zero), begin and Fraction(begin), end and Fraction(end)),
            read_display(ByteReader(bytes.fromhex(display))),
            tuple(notes),
            tuple(damage),
        )


@dataclass(frozen=True)
class FileInput:
    """Frames of a file, and what goes with them, to be encoded.

    source, skip, limit, every, entry, stream, strict: as `VideoSource` takes them; mask: as
    `read_masks` does; sound: whether sound and subtitles go with the frames.
    """

    source: str
    skip: int = 0
    limit: int | None = None
    every: int = 1
    mask: str | None = None
    sound: bool = True
    entry: Entry | None = None
    stream: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if self.skip < 0 or self.every < 1 or (self.limit is not None and self.limit < 1):
            raise UsageError(
                f"skip {self.skip}, limit {self.limit} or every {self.every} is out of range"
            )

    @property
    def can_be_reread(self) -> bool:
        """Whether the source can be read more than once, unlike a pipe."""
        return can_be_reread(self.source)

    def open(self) -> VideoSource:
        """The frames that are to be encoded, as a source to be closed."""
        return VideoSource(
            self.source,
            skip=self.skip,
            limit=self.limit,
            every=self.every,
            entry=self.entry,
            stream=self.stream,
            strict=self.strict,
        )

    def absolute(self) -> FileInput:
        """The same for a process that works in another folder."""
        source, mask = (
            name if name is None or "://" in name else os.path.abspath(name)
            for name in (self.source, self.mask)
        )
        assert source is not None
        return replace(self, source=source, mask=mask)

    def part(self, first_frame: int, frame_count: int, entry: Entry | None) -> FileInput:
        """Some of these frames; `entry`: of the first, if that is known."""
        skip = self.skip + first_frame * self.every
        return replace(self, skip=skip, limit=frame_count, entry=entry)

    def masks(self, video: VideoHeader) -> Iterator[Planes] | None:
        """Yields the mask of each of the frames; None if nothing is masked."""
        if self.mask is None:
            return None
        return read_masks(self.mask, video, skip=self.skip, every=self.every)

    def check_masks(self, video: VideoHeader, scan: Scan | None) -> list[str]:
        """That there are enough of them is to be found out now, not after hours. Returns notes."""
        if self.mask is None:
            return []
        if not can_be_reread(self.mask):
            raise UsageError(f"{self.mask} is read twice and cannot be a pipe")
        return missed_masks(self.mask, self.masks(video), scan)

    def scan(
        self, wanted: int | None, scenecut: float, report: Callable[[int], None]
    ) -> Scan | None:
        """Looks at all frames: divides them into segments (`scenes.scan`) and finds the rest of a
        `Scan`. None for a pipe, into which nobody can look ahead.

        wanted: frames of a segment, about; None: what suits each scene. report: called with the
        number of frames looked at so far.
        """
        if not can_be_reread(self.source):
            return None

        found: list[Entry | None] = []

        def counted(video: VideoSource) -> Iterator[Planes]:
            for n, planes in enumerate(video.frames(), 1):
                found.append(video.entry(planes))
                yield planes
                report(n)

        with self.open() as video:
            about = wanted or SEGMENT_FRAMES
            lengths = scan(video.header, counted(video), about, scenecut, wanted is None)
            if not lengths:
                raise SourceError("the source holds no frames in the selected range")
            times, window = video.times(), video.window()
            first = accumulate(lengths[:-1], initial=0)
            entries = [found[n] for n in first] if video.tells_frames_apart else []
            return Scan(
                tuple(lengths),
                tuple(filter(None, entries)),
                times,
                window,
                video.display,
                tuple(video.notes),
                tuple(video.damage.notes()),
            )

    def side_data(self, video: VideoHeader, scan: Scan | None) -> tuple[SideData | None, list[str]]:
        """Sound, subtitles, times and orientation that go into the file beside these frames, and
        notes of what does not."""
        if scan is None:
            is_y4m = self.source == "-"  # which has nothing of the kind
            return None, [] if is_y4m else ["sound, timestamps and rotation of a pipe are not kept"]
        streams: list[StreamInfo] = []
        packets: list[StreamPacket] = []
        notes: list[str] = []
        if self.sound:
            found = read_streams(self.source, *scan.window, video=self.stream)
            streams, packets, notes = found
        rate = video.frame_rate
        side_data = SideData(sum(scan.lengths), rate, scan.display, scan.times, streams, packets)
        return side_data, [*scan.notes, *notes]

    def facts(self) -> dict[str, Any]:
        """What tells these frames from others when an encode is resumed, in JSON's types."""
        mask = [self.mask, identity(self.mask)] if self.mask else None
        return asdict(self) | {"source": identity(self.source), "mask": mask}


def missed_masks(name: str | None, masks: Iterator[Planes] | None, scan: Scan | None) -> list[str]:
    """Notes, after a look at the masks of all frames, or of the first where nobody knows how many
    there are."""
    if masks is None:
        return []
    covered = [bool(luma.any()) for luma, *_ in islice(masks, sum(scan.lengths) if scan else 1)]
    return [] if scan is None or any(covered) else [f"{name} masks nothing in these frames"]


def identity(path: str) -> list[int] | None:
    """Size and time: a file that has changed has others. None for what is no file."""
    if not os.path.isfile(path):
        return None
    facts = os.stat(path)
    return [facts.st_size, facts.st_mtime_ns]


def can_be_reread(source: str) -> bool:
    """Whether it is not a pipe: a file, or a pattern or an address that libav knows."""
    return source != "-" and (os.path.isfile(source) or not os.path.exists(source))


def between(
    source: str,
    start: Fraction | None,
    stop: Fraction | None,
    every: int,
    stream: int | None = None,
) -> tuple[int, int | None]:
    """How many frames to skip, and to take, for those from `start` to before `stop`, in seconds."""
    if not can_be_reread(source):
        raise UsageError("`start` and `stop` need a file, as a pipe is read only once")
    skip = 0 if start is None else count_until(source, start, stream)
    if stop is None:
        return skip, None
    taken = count_until(source, stop, stream) - skip
    if taken < 1:
        raise UsageError("no frame begins between `start` and `stop`")
    return skip, -(-taken // every)


@dataclass(frozen=True)
class Selection:
    """What to take of a video, or of each of many. of_each: its `source` is replaced by each
    video's; start, stop: seconds, instead of its `skip` and `limit`."""

    of_each: FileInput = field(default_factory=lambda: FileInput(""))
    start: Fraction | None = None
    stop: Fraction | None = None

    def of(self, path: str) -> FileInput:
        """That of the video `path`; UsageError or SourceError where these seconds tell nothing."""
        if self.start is None and self.stop is None:
            return replace(self.of_each, source=path)
        skip, limit = between(path, self.start, self.stop, self.of_each.every, self.of_each.stream)
        return replace(self.of_each, source=path, skip=skip, limit=limit)
