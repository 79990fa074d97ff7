"""Who fits the segments, and which."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hnervcodec.errors import UsageError

if TYPE_CHECKING:
    from hnervcodec.commands.progress import EncodeProgress
    from hnervcodec.encoding.file_input import Footage, Scan
    from hnervcodec.encoding.plan import Part, Plan
    from hnervcodec.encoding.segment_encoder import EncodedSegment
    from hnervcodec.media.source import Entry, VideoSource


@dataclass(frozen=True)
class Where:
    """Who fits the segments: `workers` processes here, or a Dask cluster, or this process; and
    `share`, which of them: i of n, from 1."""

    workers: int | None
    cluster: str | None
    threads: int | None
    share: tuple[int, int] | None

    def __post_init__(self) -> None:
        if self.workers and self.cluster:
            raise UsageError("choose --workers or --cluster")

    @property
    def is_elsewhere(self) -> bool:
        return bool(self.workers or self.cluster)

    @property
    def fit_threads(self) -> int:
        from hnervcodec.system.devices import processors

        if self.threads or not self.is_elsewhere:
            return self.threads or processors()
        return max(1, processors() // self.workers) if self.workers else 1

    def parts(self, plan: Plan) -> list[Part]:
        """The segments to be fitted."""
        if self.share is None:
            return plan.parts
        number, count = self.share
        total = len(plan.parts)
        parts = plan.parts[total * (number - 1) // count : total * number // count]
        if not parts:
            raise UsageError(
                f"--segments {number}/{count}: nothing falls to this share, as the video has only "
                f"{total} segment{'s' * (total > 1)}"
            )
        return parts

    def first_frame(self, plan: Plan) -> int:
        """Of the segments to be fitted."""
        return self.parts(plan)[0].first_frame if self.share else 0


@contextmanager
def fitted(
    plan: Plan,
    footage: Footage,
    where: Where,
    folder: Path | None,
    report: EncodeProgress,
    source: VideoSource,
    entries: Sequence[Entry],
) -> Iterator[Iterator[EncodedSegment]]:
    """The segments, in order, from wherever they are fitted. `source`: the footage, opened;
    `entries`: as in `Scan`."""
    from hnervcodec.encoding.encoder import masked, segment_jobs
    from hnervcodec.encoding.segment_encoder import encode_segment

    parts = where.parts(plan)
    report.lengths = {part.number: part.frame_count for part in parts}
    if where.is_elsewhere:
        try:
            from hnervcodec.encoding import cluster
        except ImportError as error:
            raise UsageError(
                "--workers and --cluster need Dask: pip install hnervcodec[cluster]"
            ) from error
        with cluster.connected(where.workers, where.cluster) as client:
            yield cluster.encode_parts(
                client, plan, parts, footage, entries, where.fit_threads, folder, report
            )
        return
    if len(parts) == len(plan.parts):
        frames = masked(source.frames(), footage.masks(plan.video))
        yield map(encode_segment, segment_jobs(plan, frames, folder, report))
        return
    first, last = parts[0], parts[-1]
    count = last.first_frame + last.frame_count - first.first_frame
    some = footage.part(first.first_frame, count, entries[first.number] if entries else None)
    with some.open() as opened:
        frames = masked(opened.frames(), some.masks(plan.video))
        yield map(encode_segment, segment_jobs(plan, frames, folder, report, parts))


def scanned(
    footage: Footage, segment: int, scenecut: float, folder: Path | None, report: EncodeProgress
) -> Scan | None:
    """What a look at all frames finds, or found before."""
    from hnervcodec.encoding import job_folder
    from hnervcodec.encoding.file_input import Scan

    def scan() -> bytes:
        found = footage.scan(segment, scenecut, report.scanned)
        return found.to_bytes() if found else b""

    found = job_folder.kept(folder, "scan", scan)
    made = Scan.from_bytes(found) if found else None
    report.scan_is_done(made.lengths if made else ())
    return made


class Share(click.ParamType[tuple[int, int]]):
    """I/N, I from 1 to N."""

    name = "i/n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(value))
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r} is not a share such as 2/4", param, ctx)
        return int(match[1]), int(match[2])
