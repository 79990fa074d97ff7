"""Torch datasets of the frames of `.hnv` files: any frame in one forward pass, in any order."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, get_worker_info

from hnervcodec.decoding.decoder import Decoder
from hnervcodec.errors import UsageError
from hnervcodec.system import numbers

MAX_OPEN_FILES = 32  # at a time


class OpenDecoders:
    """Decoders of files, opened when they are asked for; the longest unused ones are given up, and
    closed when nobody uses them any more. Their loaded segments outlive that (`Decoder`'s
    cache_bytes). options: of `Decoder`; without `threads`, a DataLoader's worker computes with one,
    so that workers do not fight. Threads may share it."""

    def __init__(self, **options: Any):
        self._options = options
        self._open: OrderedDict[str | Path, Decoder] = OrderedDict()
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        return self._options

    def __setstate__(self, options: dict[str, Any]) -> None:
        self.__init__(**options)  # type: ignore[misc]

    def __getitem__(self, path: str | Path) -> Decoder:
        with self._lock:
            if path in self._open:
                self._open.move_to_end(path)
                return self._open[path]
        options = {"threads": None if get_worker_info() is None else 1, **self._options}
        decoder = Decoder(path, **options)
        with self._lock:
            decoder = self._open.setdefault(path, decoder)
            if len(self._open) > MAX_OPEN_FILES:
                self._open.popitem(last=False)
        return decoder


class FrameDataset(Dataset[Tensor]):
    """All frames of one or more `.hnv` files, one after the other, in RGB (uint8 [3, H, W]).

    `options` are those of `Decoder`, such as crop, resize, output_dtype and cache_bytes. Thousands
    of files are no more than hundreds: at most `MAX_OPEN_FILES` are open at a time, and what they
    have in memory stays within cache_bytes, in each process. Workers of a DataLoader, forked or
    spawned, compute with one thread each unless `threads` says otherwise.

    >>> dataset = FrameDataset(["a.hnv", "b.hnv"], resize=(224, 224))
    >>> loader = DataLoader(dataset, 16, shuffle=True, num_workers=4)
    """

    def __init__(self, files: str | Path | Sequence[str | Path], **options: Any):
        self.files = [files] if isinstance(files, str | Path) else list(files)
        self._decoders = OpenDecoders(**options)
        self.segments: list[range] = []  # of frames of the dataset, as they lie in the files
        self._ends: list[int] = []
        for file in self.files:
            begin = len(self)
            decoder = self._decoders[file]
            parts = (entry.frames for entry in decoder.reader.index)
            self.segments += [range(begin + part.start, begin + part.stop) for part in parts]
            self._ends.append(begin + len(decoder))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _place(self, index: int) -> tuple[int, int]:
        """(number of the file, frame in it) of a frame of the dataset."""
        index = numbers.whole("index", index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        index %= len(self)
        file = bisect_right(self._ends, index)
        return file, index - (self._ends[file - 1] if file else 0)

    def __getitem__(self, index: int) -> Tensor:
        file, local = self._place(index)
        return self._decoders[self.files[file]][local]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch at once: frames of one segment share forward passes, in whatever order."""
        places: dict[int, list[tuple[int, int]]] = {}
        for n, index in enumerate(indices):
            file, local = self._place(index)
            places.setdefault(file, []).append((n, local))
        frames: dict[int, Tensor] = {}
        for file, wanted in places.items():
            numbers_of, locals_of = zip(*wanted, strict=True)
            batch = self._decoders[self.files[file]].get_frames_at(locals_of)
            frames.update(zip(numbers_of, batch.data, strict=True))
        return [frames[n] for n in range(len(indices))]


class SegmentSampler(Sampler[int]):
    """Shuffles a dataset's segments, and the frames of a few of them together: nearly as random as
    all frames, but every segment is loaded once per epoch, however large the files are.

    together: segments whose frames are shuffled among each other, at least 1. They should fit into
    cache_bytes. generator: of torch; None: torch's own.

    >>> DataLoader(dataset, 16, sampler=SegmentSampler(dataset), num_workers=4)
    """

    def __init__(
        self,
        dataset: FrameDataset,
        together: int = 8,
        generator: torch.Generator | None = None,
    ):
        self._segments = dataset.segments
        self._together = numbers.whole("together", together)
        if self._together < 1:
            raise UsageError(f"together {together} is not at least 1")
        self._generator = generator

    def __len__(self) -> int:
        return sum(map(len, self._segments))

    def __iter__(self) -> Iterator[int]:
        order = self._shuffled(len(self._segments))
        for n in range(0, len(order), self._together):
            frames = [at for i in order[n : n + self._together] for at in self._segments[i]]
            yield from (frames[at] for at in self._shuffled(len(frames)))

    def _shuffled(self, count: int) -> list[int]:
        order: list[int] = torch.randperm(count, generator=self._generator).tolist()
        return order


_DECODERS = OpenDecoders(output_dtype=torch.float32)


def decode_video_frames(
    path: str | Path, timestamps: Sequence[float], tolerance_s: float
) -> Tensor:
    """The frames whose times are nearest to `timestamps`, as LeRobot's function of this name gives
    them: float32 [T, 3, H, W] of 0..1, in RGB.

    timestamps: in seconds, in any order. UsageError, which is a ValueError, if one is `tolerance_s`
    seconds or more away from every frame. Files stay open between calls, a bounded number of them.
    """
    decoder = _DECODERS[path]
    times, indices = decoder.times, list[int]()
    for seconds in timestamps:
        at = numbers.exact("timestamps", seconds)
        before = math.floor(times.position(min(max(at, times.begin), times.end)))
        around = range(times.frame_count)[before : before + 2] or range(times.frame_count)[-1:]
        distance, nearest = min((abs(times.pts(n) - at), n) for n in around)
        if distance >= tolerance_s:
            raise UsageError(
                f"{path}: no frame is nearer than {tolerance_s} s to {seconds} s; "
                f"frame {nearest} is {float(distance):.6g} s away"
            )
        indices.append(nearest)
    return decoder.get_frames_at(indices).data
