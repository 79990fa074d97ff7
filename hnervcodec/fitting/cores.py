"""The processor's cores share a batch: each computes with frames of its own.

Inside single operators two cores are worth little more than one. The parts of a batch meet only in
the loss and in the sums of the gradients, which are taken in the parts' order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

from hnervcodec.system.devices import using_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


class Cores:
    """torch's threads of the processor, of which each computes with a part of every batch.

    device: that computes; only the CPU's batches are shared.
    batch_frames: frames of a batch. Threads that are left over share the work within a part.
    """

    def __init__(self, device: torch.device, batch_frames: int):
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        self.parts = min(threads, batch_frames)
        self.workers = threads // self.parts  # within a part
        self._pool = ThreadPoolExecutor(threads, "fit", torch.set_num_threads, (self.workers,))

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`function` of each item, in their order."""
        if len(items) == 1:
            return [function(items[0])]
        return list(self._pool.map(function, items))

    def together(self, function: Callable[[int], None], give_up: Callable[[], None]) -> None:
        """`function` of each worker's number, all at once, as they may wait for each other; if
        they cannot be, `give_up` must end the wait of those that have begun."""
        others: list[Future[None]] = []
        try:
            others += (self._pool.submit(function, number) for number in range(1, self.workers))
            function(0)
        except BaseException:  # as KeyboardInterrupt
            give_up()
            raise
        finally:
            wait(others)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it the calling thread computes as the others do."""
        with using_threads(self.workers):
            yield
