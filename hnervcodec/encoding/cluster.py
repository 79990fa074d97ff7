"""Segments fitted by the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from distributed import Client, as_completed, get_worker
from distributed.scheduler import KilledWorker

from hnervcodec.encoding import job_folder
from hnervcodec.encoding.encoder import Report
from hnervcodec.encoding.remote import RemoteFit, seldom
from hnervcodec.errors import HnervError, SourceError, UsageError
from hnervcodec.fitting.progress import Phase, Progress

CONNECT_TIMEOUT = 10.0  # seconds
T = TypeVar("T")


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the Dask cluster at `address`; UsageError if nobody answers, or if there are no
    workers. What the scheduler sends is trusted as this program is."""
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        # Some of them tell that Dask's configuration lacks what TLS needs.
        raise UsageError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise UsageError(f"the cluster at {address} has no workers: start some by dask worker")
        yield client


def fitted(
    client: Client,
    requests: Sequence[RemoteFit[T]],
    device: str,
    folder: Path | None,
    report: Report,
) -> Iterator[tuple[RemoteFit[T], T]]:
    """What each of the fits makes, when the cluster has completed it.

    device: of the fits, by torch's name. folder: the job folder, in which this machine keeps what
    is completed. What a worker that dies was at goes to another one, which goes on from its
    checkpoint if it sees that folder. report: hears of all fits, once a second.
    """
    topic = f"hnv-{uuid4()}"

    def pass_on(event: tuple[float, dict[str, Any]]) -> None:
        facts = event[1]["progress"]
        report(event[1]["number"], Progress(**facts | {"phase": Phase(facts["phase"])}))

    client.subscribe_topic(topic, pass_on)
    resources = _resources(client, device)
    futures = {
        client.submit(
            _fit_there,
            request,
            topic,
            pure=False,
            resources=resources,
            priority=-request.number,
        ): request
        for request in requests
    }
    try:
        for future in as_completed(futures):
            request = futures[future]
            yield (
                request,
                job_folder.read_or_make(
                    folder,
                    request.file_name,
                    partial(_result, future, request),
                    request.parse,
                ),
            )
    finally:
        client.cancel(list(futures))
        client.unsubscribe_topic(topic)


def _resources(client: Client, device: str) -> dict[str, int] | None:
    """What a fit asks of a worker, so that no two share a GPU."""
    if not device.startswith("cuda"):
        return None
    workers = client.scheduler_info()["workers"].values()
    if not any(worker["resources"].get("GPU") for worker in workers):
        raise UsageError("no worker has a GPU: start them by dask worker --resources GPU=1")
    return {"GPU": 1}


def _fit_there(request: RemoteFit[Any], topic: str) -> bytes:
    """On a worker."""
    worker = get_worker()
    key = worker.get_current_task()

    def send(number: int, progress: Progress) -> None:
        facts = asdict(progress) | {"phase": str(progress.phase)}
        worker.log_event(topic, {"number": number, "progress": facts})

    send_seldom = seldom(send)

    def report(number: int, progress: Progress) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state != "executing":
            raise HnervError("nobody waits for this segment any more")  # dask stops no thread
        send_seldom(number, progress)

    try:
        return request.fit(report)
    except SourceError as error:
        raise SourceError(f"{error} (on the worker at {worker.address})") from error


def _result(future: Any, request: RemoteFit[Any]) -> bytes:
    try:
        data: bytes = future.result()
    except KilledWorker as error:
        raise HnervError(f"{request.name} ended every worker that it was given to") from error
    return data
