"""Segments, or whole videos, fitted by several processes on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeVar

from hnervcodec.encoding.encoder import Report
from hnervcodec.encoding.remote import RemoteFit, seldom
from hnervcodec.errors import HnervError
from hnervcodec.system.isolated import Crashed, Worker, tell

ATTEMPTS = 3  # processes that a segment may be given to
T = TypeVar("T")


class LocalWorkers:
    """So many processes, which end with the `with` block. Nobody else can reach them.

    What one that dies was at goes to another one, which goes on from the last checkpoint.
    """

    def __init__(self, count: int):
        self._lock, self._is_closed = Lock(), False
        self._workers: list[Worker] = []
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count)  # one that waits for each of them
        for _ in range(count):
            self._start()

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._is_closed = True
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def fitted(
        self, requests: Sequence[RemoteFit[T]], report: Report
    ) -> Iterator[tuple[RemoteFit[T], T]]:
        """What each of the fits makes, when it is completed. report: hears of all of them, of one
        at a time."""
        futures = {
            self.submit(
                one.name,
                partial(_fit_here, one),
                lambda message: report(*message),
            ): one
            for one in requests
        }
        for future in as_completed(futures):
            request = futures[future]
            yield request, request.parse(future.result())

    def submit(
        self, name: str, function: Callable[[], T], hear: Callable[[Any], None]
    ) -> Future[T]:
        """What `function()` will have returned in one of the processes, as `Worker.call` calls it;
        an HnervError, with the culprit `name`, if it ends several. hear: one call at a time."""
        return self._threads.submit(self._call, name, function, hear)

    def _start(self) -> None:
        with self._lock:
            if not self._is_closed:
                worker = Worker()
                self._workers.append(worker)
                self._idle.put(worker)

    def _call(self, name: str, function: Callable[[], T], hear: Callable[[Any], None]) -> T:
        def hear_alone(message: object) -> None:
            with self._lock:
                hear(message)

        reason: Crashed | None = None
        for _ in range(ATTEMPTS):
            worker = self._idle.get()
            try:
                return worker.call(function, hear_alone)
            except Crashed as error:
                if self._is_closed:
                    raise
                reason = error
            finally:
                if worker.is_closed:
                    self._start()
                else:
                    self._idle.put(worker)
        raise HnervError(f"{name} ended {ATTEMPTS} processes ({reason})") from reason


def _fit_here(request: RemoteFit[Any]) -> bytes:
    """In a worker."""
    return request.fit(seldom(lambda number, progress: tell((number, progress))))
