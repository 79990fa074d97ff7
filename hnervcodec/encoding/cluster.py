"""Segments fitted by the workers of a Dask cluster, on this machine or on many."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client, LocalCluster, as_completed, get_worker
from distributed.scheduler import KilledWorker

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding import job_folder
from hnervcodec.encoding.encoder import Report, segment_request, with_masks
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.encoding.job_folder import DESCRIPTION
from hnervcodec.encoding.plan import Part, Plan, Settings
from hnervcodec.encoding.segment_encoder import EncodedSegment, encode_segment
from hnervcodec.errors import HnervError, SourceError, UsageError
from hnervcodec.fitting.progress import Phase, Progress
from hnervcodec.media.source import Entry
from hnervcodec.system.devices import use_threads

REPORT_INTERVAL = 1.0  # seconds between two reports of one fit
CONNECT_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class RemoteRequest:
    """A segment to be fitted, as it travels to a worker, which reads the frames itself.

    source_file: the segment's frames. folder: the job folder; description: what its job.json says,
    by which a worker knows that it sees the same folder. threads: of the processor, for the fit.
    topic: that the worker reports its progress on.
    """

    video: VideoHeader
    settings: Settings
    part: Part
    source_file: FileInput
    folder: Path | None
    description: bytes
    threads: int
    topic: str

    def shared_folder(self) -> Path | None:
        """The job folder, if this worker sees it."""
        with suppress(OSError):
            if self.folder and (self.folder / DESCRIPTION).read_bytes() == self.description:
                return self.folder
        return None

    def __call__(self) -> bytes:
        """Fits the segment, on a worker; the bytes of an `EncodedSegment`."""
        use_threads(self.threads)
        worker, last = get_worker(), 0.0
        key = worker.get_current_task()

        def report(number: int, progress: Progress) -> None:
            nonlocal last
            now, task = time.monotonic(), worker.state.tasks.get(key)
            if task is None or task.state != "executing":
                raise HnervError("nobody waits for this segment any more")  # dask stops no thread
            if now - last > REPORT_INTERVAL or progress.step == progress.steps:
                last = now
                worker.log_event(
                    self.topic,
                    {
                        "number": number,
                        "progress": asdict(progress) | {"phase": str(progress.phase)},
                    },
                )

        plan, part = Plan.of(self.video, self.settings), self.part
        with self.source_file.open() as source:
            seen = with_masks(source.frames(), self.source_file.masks(self.video))
            group = list(islice(seen, part.frame_count))
            if source.header != self.video or len(group) < part.frame_count:
                raise SourceError(f"{self.source_file.source} is another video on {worker.address}")
        return encode_segment(
            segment_request(plan, part, group, self.shared_folder(), report)
        ).to_bytes()


@contextmanager
def connected(workers: int | None, address: str | None) -> Iterator[Client]:
    """A client of the Dask cluster at `address`, or of `workers` new processes on this machine,
    which end with the block. UsageError if nobody answers, or if there are no workers."""
    if address is None:
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=50,
                memory_limit=0,
                resources={"GPU": 1},
            ) as local,
            Client(local) as client,
        ):
            yield client
        return
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        # Some of them tell that Dask's configuration lacks what TLS needs.
        raise UsageError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise UsageError(f"the cluster at {address} has no workers: start some by dask worker")
        yield client


def encode_parts(
    client: Client,
    plan: Plan,
    parts: list[Part],
    source_file: FileInput,
    entries: Sequence[Entry],
    threads: int,
    folder: Path | None,
    report: Report,
) -> Iterator[EncodedSegment]:
    """The encoded segments, in order, fitted by the cluster's workers.

    entries: as in `Scan`. threads: of each fit. folder: the job folder, in which this machine keeps
    what is finished. What a worker that dies was at goes to another one, which goes on from its
    checkpoint if it sees that folder. report: hears of all fits, once a second.
    """
    topic = f"hnv-{uuid4()}"

    def pass_on(event: tuple[float, dict[str, Any]]) -> None:
        facts = event[1]["progress"]
        report(event[1]["number"], Progress(**facts | {"phase": Phase(facts["phase"])}))

    client.subscribe_topic(topic, pass_on)
    resources = _resources(client, plan.settings.device)
    description = (folder / DESCRIPTION).read_bytes() if folder else b""
    kept = {part: folder / part.file_name for part in parts if folder}
    ready = {part: _read(file, part) for part, file in kept.items() if file.exists()}
    for part, encoded in ready.items():
        report(part.number, encoded.progress)
    request = partial(
        RemoteRequest,
        plan.video,
        plan.settings,
        description=description,
        folder=folder and folder.absolute(),
        threads=threads,
        topic=topic,
    )

    def frames_of(part: Part) -> FileInput:
        entry = entries[part.number] if entries else None
        return source_file.absolute().part(part.first_frame, part.frame_count, entry)

    futures = {
        client.submit(
            _run,
            request(part=part, source_file=frames_of(part)),
            pure=False,
            resources=resources,
            priority=-part.number,
        ): part
        for part in parts
        if part not in ready
    }
    completed = as_completed(futures)
    try:
        for part in parts:
            while part not in ready:
                future = next(completed)
                done = futures[future]
                ready[done] = job_folder.read_or_make(
                    folder,
                    done.file_name,
                    partial(_result, future, done),
                    partial(EncodedSegment.from_bytes, part=done),
                )
            yield ready.pop(part)
    finally:
        client.cancel(list(futures))
        client.unsubscribe_topic(topic)


def _read(file: Path, part: Part) -> EncodedSegment:
    return job_folder.read(file, partial(EncodedSegment.from_bytes, part=part))


def _resources(client: Client, device: str) -> dict[str, int] | None:
    """What a fit asks of a worker, so that no two share a GPU."""
    if not device.startswith("cuda"):
        return None
    workers = client.scheduler_info()["workers"].values()
    if not any(worker["resources"].get("GPU") for worker in workers):
        raise UsageError("no worker has a GPU: start them by dask worker --resources GPU=1")
    return {"GPU": 1}


def _run(request: RemoteRequest) -> bytes:
    return request()


def _result(future: Any, part: Part) -> bytes:
    try:
        data: bytes = future.result()
    except KilledWorker as error:
        raise HnervError(
            f"segment {part.number + 1} ended every worker that it was given to"
        ) from error
    return data
