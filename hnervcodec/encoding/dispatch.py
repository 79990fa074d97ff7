"""Which segments are fitted, and by whom: this process, workers on this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hnervcodec.encoding import remote, start_fit
from hnervcodec.encoding.encoder import Report, segment_requests, with_masks
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.encoding.local_workers import LocalWorkers
from hnervcodec.encoding.segment_encoder import encode_segment
from hnervcodec.errors import UsageError
from hnervcodec.system import numbers
from hnervcodec.system.devices import processors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hnervcodec.encoding.memory_input import MemoryInput
    from hnervcodec.encoding.plan import Part, Plan
    from hnervcodec.encoding.remote import RemoteFit, RemoteRequest, RemoteStart
    from hnervcodec.encoding.segment_encoder import EncodedSegment
    from hnervcodec.encoding.shared_start import SharedStart
    from hnervcodec.media.source import Entry
    from hnervcodec.planes import Planes


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """Who fits the segments, and which of them.

    workers: so many new processes on this machine. cluster: instead, the address of a Dask
    scheduler, such as tcp://host:8786. Neither: this process.
    threads: of the processor, for each fit; None: all of them, shared among the `workers`, and one
    on a cluster.
    share: (i, n), i from 1: only the i-th of n shares of the segments.
    """

    workers: int | None = None
    cluster: str | None = None
    threads: int | None = None
    share: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        numbers.convert(self, wholes=("workers", "threads"))
        if self.workers and self.cluster:
            raise UsageError("choose `workers` or `cluster`")
        for name, count in (("workers", self.workers), ("threads", self.threads)):
            if count is not None and not 1 <= count <= 65535:
                raise UsageError(f"`{name}` {count} is out of range: at least 1")
        if self.share is not None:
            object.__setattr__(self, "share", _share(self.share))

    @property
    def is_elsewhere(self) -> bool:
        """Whether other processes fit the segments."""
        return bool(self.workers or self.cluster)

    @property
    def fit_threads(self) -> int:
        """Threads of each fit."""
        if self.threads or not self.is_elsewhere:
            return self.threads or processors()
        return max(1, processors() // self.workers) if self.workers else 1

    def parts(self, plan: Plan) -> list[Part]:
        """The segments to be fitted; UsageError if none falls to the share."""
        if self.share is None:
            return plan.parts
        number, count = self.share
        total = len(plan.parts)
        parts = plan.parts[total * (number - 1) // count : total * number // count]
        if not parts:
            raise UsageError(
                f"`share` {number}/{count}: nothing falls to this share, as the video has only "
                f"{total} segment{'s' * (total > 1)}"
            )
        return parts

    def first_frame(self, plan: Plan) -> int:
        """The number in the whole video of the first frame to be fitted."""
        return self.parts(plan)[0].first_frame if self.share else 0


@contextmanager
def _completed(
    requests: Sequence[RemoteRequest],
    start: RemoteStart | None,
    dispatch: Dispatch,
    device: str,
    folder: Path | None,
    report: Report,
) -> Iterator[Iterator[tuple[RemoteFit[EncodedSegment], EncodedSegment]]]:
    """The segments that other processes fit, each when it is completed. start: what all of them
    begin from, to be fitted first."""
    if dispatch.workers:
        with LocalWorkers(min(dispatch.workers, max(len(requests), 1))) as workers:
            if start and requests:
                requests = _started(requests, workers.fitted([start], report))
            yield workers.fitted(requests, report)
        return
    assert dispatch.cluster is not None
    cluster = _cluster()
    with cluster.connected(dispatch.cluster) as client:
        if start and requests:
            made = cluster.fitted(client, [start], device, folder, report)
            requests = _started(requests, made)
        # It is closed before its client is.
        with closing(cluster.fitted(client, requests, device, folder, report)) as completed:
            yield completed


def _started(
    requests: Sequence[RemoteRequest], made: Iterator[tuple[RemoteFit[SharedStart], SharedStart]]
) -> list[RemoteRequest]:
    """The requests with the one start that is made."""
    ((_, start),) = made
    data = start.to_bytes()
    return [replace(request, start=data) for request in requests]


def check_cluster(address: str) -> None:
    """UsageError if no Dask cluster answers there, or without Dask here."""
    with _cluster().connected(address):
        pass


def _cluster() -> ModuleType:
    try:
        from hnervcodec.encoding import cluster
    except ImportError as error:
        raise UsageError("`cluster` needs Dask: pip install hnervcodec[cluster]") from error
    return cluster


def _share(share: Any) -> tuple[int, int]:
    try:
        number, count = (numbers.whole("share", n) for n in share)
    except (TypeError, ValueError) as error:
        raise UsageError(f"`share` {share!r} is not a share such as (2, 4)") from error
    if not 1 <= number <= count:
        raise UsageError(f"`share` {share!r} is not a share such as (2, 4)")
    return number, count


@contextmanager
def encoded_segments(
    plan: Plan,
    source: FileInput | MemoryInput,
    frames: Iterable[Planes],
    dispatch: Dispatch,
    entries: Sequence[Entry],
    folder: Path | None,
    report: Report,
) -> Iterator[Iterator[EncodedSegment]]:
    """The encoded segments, in order, from wherever they are fitted.

    frames: all of the source's, read once and only by this process. entries: where the segments'
    first frames are in a file, as in `Scan`. folder: the job folder, None if nothing is kept.
    report: hears of each fit's progress. Errors of a fit are raised by the iterator.
    """
    parts = dispatch.parts(plan)
    if dispatch.is_elsewhere:
        assert isinstance(source, FileInput)  # as `prepared` has checked
        ready = remote.finished(parts, folder)
        for part, encoded in ready.items():
            report(part.number, encoded.progress)
        missing = [part for part in parts if part not in ready]
        threads, device = dispatch.fit_threads, plan.settings.device
        requests = remote.requests(plan, missing, source, entries, threads, folder)
        start = remote.start_request(plan, source, threads, folder) if plan.shares_start else None
        with _completed(requests, start, dispatch, device, folder, report) as completed:
            yield remote.in_order(parts, ready, completed)
        return
    shared = start_fit.shared_start(plan, source, folder, report)
    if dispatch.share is None:
        seen = with_masks(frames, source.masks(plan.video))
        yield map(encode_segment, segment_requests(plan, seen, folder, report, start=shared))
        return
    assert isinstance(source, FileInput)  # as `prepared` has checked
    first, last = parts[0], parts[-1]
    count = last.first_frame + last.frame_count - first.first_frame
    some = source.part(first.first_frame, count, entries[first.number] if entries else None)
    with some.open() as opened:
        seen = with_masks(opened.frames(), some.masks(plan.video))
        yield map(encode_segment, segment_requests(plan, seen, folder, report, parts, shared))
