"""Segments that other processes fit: what they are sent, and what becomes of their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding import job_folder
from hnervcodec.encoding.encoder import Report, segment_request, with_masks
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.encoding.job_folder import DESCRIPTION
from hnervcodec.encoding.plan import Part, Plan, Settings
from hnervcodec.encoding.segment_encoder import EncodedSegment, encode_segment
from hnervcodec.errors import SourceError
from hnervcodec.fitting.progress import Progress
from hnervcodec.media.source import Entry
from hnervcodec.system.devices import use_threads

REPORT_INTERVAL = 1.0  # seconds between two reports of one fit


@dataclass(frozen=True)
class RemoteRequest:
    """A segment to be fitted, as it travels to another process, which reads the frames itself.

    source_file: the segment's frames. folder: the job folder; description: what its job.json says,
    by which the process knows that it sees the same folder. threads: of the processor, for the fit.
    """

    video: VideoHeader
    settings: Settings
    part: Part
    source_file: FileInput
    folder: Path | None
    description: bytes
    threads: int

    def fit(self, report: Report) -> bytes:
        """Fits the segment here; the bytes of an `EncodedSegment`. SourceError if the source is
        another one here."""
        use_threads(self.threads)
        plan, part = Plan.of(self.video, self.settings), self.part
        with self.source_file.open() as source:
            seen = with_masks(source.frames(), self.source_file.masks(self.video))
            group = list(islice(seen, part.frame_count))
            if source.header != self.video or len(group) < part.frame_count:
                raise SourceError(f"{self.source_file.source} is another video")
        request = segment_request(plan, part, group, self._shared_folder(), report)
        return encode_segment(request).to_bytes()

    def _shared_folder(self) -> Path | None:
        """The job folder, if this process sees it."""
        with suppress(OSError):
            if self.folder and (self.folder / DESCRIPTION).read_bytes() == self.description:
                return self.folder
        return None

    def parse(self, data: bytes) -> EncodedSegment:
        """What `fit` has made."""
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
    description = (folder / DESCRIPTION).read_bytes() if folder else b""
    source = source_file.absolute()
    return [
        RemoteRequest(
            plan.video,
            plan.settings,
            part,
            source.part(
                part.first_frame, part.frame_count, entries[part.number] if entries else None
            ),
            folder and folder.absolute(),
            description,
            threads,
        )
        for part in parts
    ]


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
    completed: Iterator[tuple[Part, EncodedSegment]],
) -> Iterator[EncodedSegment]:
    """The segments of all parts in order: some that are ready, the others as they are completed."""
    ready = dict(ready)
    for part in parts:
        while part not in ready:
            done, encoded = next(completed)
            ready[done] = encoded
        yield ready.pop(part)


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
