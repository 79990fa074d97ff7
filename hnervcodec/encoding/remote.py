"""Segments that other processes fit: what they are sent, and what becomes of their answers."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding import job_folder, start_fit
from hnervcodec.encoding.encoder import Report, segment_request, with_masks
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.encoding.job_folder import DESCRIPTION
from hnervcodec.encoding.plan import Part, Plan, Settings
from hnervcodec.encoding.segment_encoder import EncodedSegment, encode_segment
from hnervcodec.encoding.shared_start import SharedStart
from hnervcodec.errors import SourceError
from hnervcodec.fitting.progress import Progress
from hnervcodec.media.source import Entry
from hnervcodec.system.devices import use_threads

REPORT_INTERVAL = 1.0  # seconds between two reports of one fit
T = TypeVar("T")


@dataclass(frozen=True)
class RemoteFit(ABC, Generic[T]):
    """A fit, as it travels to another process, which reads the frames itself.

    source_file: the frames. folder: the job folder; description: what its job.json says, by which
    the process knows that it sees the same folder. threads: of the processor, for the fit.
    """

    video: VideoHeader
    settings: Settings
    source_file: FileInput
    folder: Path | None
    description: bytes
    threads: int

    @property
    @abstractmethod
    def name(self) -> str:
        """Of what is fitted, for messages."""

    @property
    @abstractmethod
    def number(self) -> int:
        """Of the segment that its reports are about, from 0."""

    @property
    @abstractmethod
    def file_name(self) -> str:
        """Under which the job folder keeps what is made."""

    @abstractmethod
    def fit(self, report: Report) -> bytes:
        """Fits it here; what `parse` understands. SourceError if the source is another one here."""

    @abstractmethod
    def parse(self, data: bytes) -> T:
        """What `fit` has made."""

    def _shared_folder(self) -> Path | None:
        """The job folder, if this process sees it."""
        with suppress(OSError):
            if self.folder and (self.folder / DESCRIPTION).read_bytes() == self.description:
                return self.folder
        return None


@dataclass(frozen=True)
class RemoteStart(RemoteFit[SharedStart]):
    """The fit that all segments begin from. source_file: all frames of the video."""

    name = "the fit that all segments begin from"
    number = 0
    file_name = start_fit.FILE_NAME

    def fit(self, report: Report) -> bytes:
        use_threads(self.threads)
        plan = Plan.of(self.video, self.settings)
        start = start_fit.shared_start(plan, self.source_file, self._shared_folder(), report)
        assert start is not None, "the plan has one"
        return start.to_bytes()

    def parse(self, data: bytes) -> SharedStart:
        return SharedStart.from_bytes(data)


@dataclass(frozen=True)
class RemoteRequest(RemoteFit[EncodedSegment]):
    """A segment to be fitted. source_file: its frames. start: the bytes of the `SharedStart` that
    it begins from, if there is one."""

    part: Part
    start: bytes | None = None

    @property
    def name(self) -> str:
        return f"segment {self.part.number + 1}"

    @property
    def number(self) -> int:
        return self.part.number

    @property
    def file_name(self) -> str:
        return self.part.file_name

    def fit(self, report: Report) -> bytes:
        use_threads(self.threads)
        plan, part = Plan.of(self.video, self.settings), self.part
        with self.source_file.open() as source:
            seen = with_masks(source.frames(), self.source_file.masks(self.video))
            group = list(islice(seen, part.frame_count))
            if source.header != self.video or len(group) < part.frame_count:
                raise SourceError(f"{self.source_file.source} is another video")
        start = None if self.start is None else SharedStart.from_bytes(self.start)
        request = segment_request(plan, part, group, self._shared_folder(), report, start)
        return encode_segment(request).to_bytes()

    def parse(self, data: bytes) -> EncodedSegment:
        return EncodedSegment.from_bytes(data, self.part)


def requests(
    plan: Plan,
    parts: Sequence[Part],
    source_file: FileInput,
    entries: Sequence[Entry],
    threads: int,
    folder: Path | None,
) -> list[RemoteRequest]:
    """One for each of the parts. entries: as in `Scan`; folder: the job folder, if there is one."""
    whole = start_request(plan, source_file, threads, folder)
    return [
        RemoteRequest(
            whole.video,
            whole.settings,
            whole.source_file.part(
                part.first_frame, part.frame_count, entries[part.number] if entries else None
            ),
            whole.folder,
            whole.description,
            threads,
            part,
        )
        for part in parts
    ]


def start_request(
    plan: Plan, source_file: FileInput, threads: int, folder: Path | None
) -> RemoteStart:
    """For the fit that all segments begin from. folder: the job folder, if there is one."""
    description = (folder / DESCRIPTION).read_bytes() if folder else b""
    return RemoteStart(
        plan.video,
        plan.settings,
        source_file.absolute(),
        folder and folder.absolute(),
        description,
        threads,
    )


def finished(parts: Sequence[Part], folder: Path | None) -> dict[Part, EncodedSegment]:
    """Those of the parts that the job folder holds already."""
    if folder is None:
        return {}
    files = {part: folder / part.file_name for part in parts}
    return {
        part: job_folder.read(file, partial(EncodedSegment.from_bytes, part=part))
        for part, file in files.items()
        if file.exists()
    }


def in_order(
    parts: Sequence[Part],
    ready: dict[Part, EncodedSegment],
    completed: Iterator[tuple[RemoteFit[EncodedSegment], EncodedSegment]],
) -> Iterator[EncodedSegment]:
    """The segments of all parts in order: some that are ready, the others as they are completed."""
    waiting = {part.number: encoded for part, encoded in ready.items()}
    for part in parts:
        while part.number not in waiting:
            request, encoded = next(completed)
            waiting[request.number] = encoded
        yield waiting.pop(part.number)


def seldom(report: Report) -> Report:
    """A report that is passed on once a second, and at the end of each phase."""
    last = 0.0

    def passed_on(number: int, progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > REPORT_INTERVAL or progress.step == progress.steps:
            last = now
            report(number, progress)

    return passed_on
