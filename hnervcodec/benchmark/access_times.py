"""How long random access takes: the modes of LeRobot's video benchmark, and a shuffled loader."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from hnervcodec.benchmark.access_readers import Opener, Reader, ways
from hnervcodec.decoding.segment_cache import SEGMENTS
from hnervcodec.system.devices import processor_name, processors, use_threads
from hnervcodec.system.isolated import Worker

# Name -> frames before the one that is drawn, as in LeRobot's benchmarks/video.
MODES: dict[str, tuple[int, ...]] = {
    "one": (0,),
    "two": (1, 0),
    "apart": (4, 0),
    "six": (5, 4, 3, 2, 1, 0),
}
SECONDS = 1.0  # that one measurement may take, about
MOST, LEAST = 200, 12  # accesses
BATCH = 16
OPENED = 8  # of which memory is taken the mean


@dataclass(frozen=True, slots=True)
class AccessTime:
    """Milliseconds per access of one file, on this machine; frames in RGB, uint8."""

    source: str
    path: str
    processor: str
    reader: str  # the fastest of `access_readers.ways`
    cold_ms: float  # open, one frame, close; what the system has cached is warm; median
    cold_p95_ms: float
    one_ms: float  # of an open file: one frame
    one_p95_ms: float
    two_ms: float  # two neighbours, together
    two_p95_ms: float
    apart_ms: float  # two, four frames apart
    apart_p95_ms: float
    six_ms: float  # six in a row
    six_p95_ms: float
    loader_0: float  # frames per second of a shuffled DataLoader without workers
    loader_2: float  # and with two
    open_kib: float  # memory of an open video that has given a frame


def measure(source: str, path: Path, frames: int) -> AccessTime:
    """Measures a file of `frames` frames; nothing else should run."""
    name, opener = fastest(path, frames)
    found: list[float] = []
    draw = random.Random(1)
    found += _percentiles(lambda: opener(str(path)).read([draw.randrange(frames)]), _forget)
    reader = opener(str(path))
    for before in MODES.values():
        found += _percentiles(_access(reader, frames, before))
    one = found[2] / 1000
    count = min(max(int(2 * SECONDS / one), 4 * BATCH), 2048)
    worker = Worker()
    try:
        rest = worker.call(partial(_in_a_new_process, path, name, frames, count))
    finally:
        worker.close()
    return AccessTime(
        source,
        path.name,
        f"{processors()} cores of {processor_name()}",
        name,
        *(round(value, 3) for value in found),
        *(round(value, 1) for value in rest),
    )


def fastest(path: Path, frames: int) -> tuple[str, Opener]:
    """The way to read single frames of this file that is the fastest here."""
    found = {
        name: _percentiles(_access(opener(str(path)), frames, (0,)), seconds=SECONDS / 5)[0]
        for name, opener in ways(path).items()
    }
    name = min(found, key=lambda name: found[name])
    return name, ways(path)[name]


def _access(reader: Reader, frames: int, before: Sequence[int]) -> Callable[[], Tensor]:
    draw = random.Random(0)

    def access() -> Tensor:
        at = draw.randrange(min(before[0], frames - 1), frames)
        return reader.read([max(at - n, 0) for n in before])

    access()
    return access


def _forget() -> None:
    SEGMENTS.clear()


def _percentiles(
    access: Callable[[], Tensor],
    prepare: Callable[[], None] = lambda: None,
    seconds: float = SECONDS,
) -> tuple[float, float]:
    """Median and 95th percentile of accesses, in milliseconds."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < LEAST or (len(taken) < MOST and time.perf_counter() < end):
        prepare()
        start = time.perf_counter()
        access()
        taken.append(time.perf_counter() - start)
    return 1000 * median(taken), 1000 * float(np.percentile(taken, 95))


def _in_a_new_process(path: Path, way: str, frames: int, count: int) -> tuple[float, float, float]:
    """A loader's frames per second without workers and with two, and KiB of an open video. Workers
    come first: forked decoders that have threads hang or crash."""
    use_threads(1)
    two, none = (_frames_per_second(path, way, frames, workers, count) for workers in (2, 0))
    return none, two, _memory(path, way, frames) / 1024


class _Frames(Dataset[Tensor]):
    """The frames of one file, opened anew in each worker."""

    def __init__(self, path: Path, way: str, frames: int):
        self._path, self._way, self._frames = path, way, frames
        self._reader: Reader | None = None

    def __len__(self) -> int:
        return self._frames

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        if self._reader is None:
            self._reader = ways(self._path)[self._way](str(self._path))
        return list(self._reader.read(indices))


def _frames_per_second(path: Path, way: str, frames: int, workers: int, count: int) -> float:
    """Without the first batches, which start the workers."""
    if workers:  # one thread each
        way = sorted(ways(path), key=lambda name: ("1 thread" not in name, name != way))[0]
    dataset = _Frames(path, way, frames)
    first = BATCH * 2 * max(workers, 1)
    sampler = RandomSampler(dataset, replacement=True, num_samples=first + count)
    loader = DataLoader(
        dataset,
        BATCH,
        sampler=sampler,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    batches: Iterator[Tensor] = iter(loader)
    for _ in range(first // BATCH):
        next(batches)
    start = time.perf_counter()
    seen = sum(map(len, batches))
    return seen / (time.perf_counter() - start)


def _memory(path: Path, way: str, frames: int) -> float:
    """Bytes of an open video, in a process of its own."""
    _forget()
    if path.is_dir():
        return 0
    opener, before, readers = ways(path)[way], 0, list[Reader]()
    copies = path.read_bytes()
    for n in range(OPENED + 1):
        copy = path.with_name(f".{n}-{path.name}")
        try:
            copy.write_bytes(copies)  # a file of its own, so that nothing is shared
            readers.append(opener(str(copy)))
            readers[-1].read([frames // 2])
        finally:
            copy.unlink(missing_ok=True)
        before = before or _resident()  # the first one loads libraries
    return (_resident() - before) / OPENED


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()
