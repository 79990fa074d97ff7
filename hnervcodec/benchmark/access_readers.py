"""Readers of single frames out of video files, each as fast as we know how, all in one form."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import torch
from torch import Tensor

from hnervcodec.decoding.decoder import Decoder
from hnervcodec.system.devices import processors


class Reader(Protocol):
    """An open video."""

    def read(self, indices: Sequence[int]) -> Tensor:
        """Frames in RGB, uint8 [N, 3, H, W]."""


class HnvReader:
    """A `Decoder`."""

    def __init__(self, path: str, threads: int):
        self._decoder = Decoder(path, threads=threads)

    def read(self, indices: Sequence[int]) -> Tensor:
        """See `Reader`."""
        return self._decoder.get_frames_at(indices).data


class TorchcodecReader:
    """torchcodec's VideoDecoder."""

    def __init__(self, path: str, threads: int, seek_mode: str):
        decoders = import_module("torchcodec.decoders")
        self._decoder = decoders.VideoDecoder(path, num_ffmpeg_threads=threads, seek_mode=seek_mode)

    def read(self, indices: Sequence[int]) -> Tensor:
        """See `Reader`."""
        frames: Tensor = self._decoder.get_frames_at(list(indices)).data
        return frames


class AvReader:
    """PyAV: to the key frame before a frame, by the container's index, and on from there."""

    def __init__(self, path: str, threads: int, thread_type: str):
        self._container: Any = av.open(path)
        self._stream = stream = self._container.streams.video[0]
        self._stream.thread_type = thread_type
        self._stream.codec_context.thread_count = threads
        assert stream.average_rate and stream.time_base
        self._tick = 1 / stream.average_rate / stream.time_base
        entries = stream.index_entries
        self._keys = [n for n, entry in enumerate(entries) if entry.is_keyframe]
        self._next = 0  # the frame that follows, without a seek
        self._decoded: Iterator[Any] = self._container.decode(self._stream)

    def read(self, indices: Sequence[int]) -> Tensor:
        """See `Reader`."""
        found = {n: self._frame(n) for n in sorted(set(indices))}
        pixels = torch.from_numpy(np.stack([found[n] for n in indices]))
        return pixels.permute(0, 3, 1, 2)

    def _frame(self, index: int) -> np.ndarray:
        key = self._keys[bisect_right(self._keys, index) - 1]
        if not key <= self._next <= index:
            self._container.seek(round(key * self._tick), stream=self._stream)
            self._decoded = self._container.decode(self._stream)
        for frame in self._decoded:
            self._next = round(frame.pts / self._tick) + 1
            if self._next > index:
                pixels: np.ndarray = frame.to_ndarray(format="rgb24")
                return pixels
        raise EOFError(f"frame {index} does not come")


class PictureReader:
    """Pictures of a folder, by Pillow."""

    def __init__(self, path: str):
        self._path, self._image = Path(path), import_module("PIL.Image")

    def read(self, indices: Sequence[int]) -> Tensor:
        """See `Reader`."""
        opened = (self._image.open(picture_of(self._path, n)) for n in indices)
        pixels = np.stack([np.asarray(image.convert("RGB")) for image in opened])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def picture_of(folder: Path, index: int) -> Path:
    """A frame's file in a folder of pictures."""
    return folder / f"{index:06d}"


Opener = Callable[[str], Reader]


def ways(path: str | Path) -> dict[str, Opener]:
    """The ways to read a file, by name: readers, with their threads and their seek."""
    counts = sorted({1, processors()})
    made: dict[str, Opener] = {}
    if str(path).endswith(".hnv"):
        for n in counts:
            made[f"hnv, {n} thread{'s' * (n > 1)}"] = _opener(HnvReader, n)
        return made
    if Path(path).is_dir():
        return {"Pillow, 1 thread": _opener(PictureReader)}
    for n in counts:
        threads = f"{n} thread{'s' * (n > 1)}"
        if has_torchcodec():
            for mode in ("exact", "approximate"):
                made[f"torchcodec {mode}, {threads}"] = _opener(TorchcodecReader, n, mode)
        else:
            for kind in ("SLICE", "FRAME")[: 1 if n == 1 else 2]:
                made[f"PyAV, {threads}{f' ({kind.lower()})' * (n > 1)}"] = _opener(
                    AvReader, n, kind
                )
    return made


def _opener(reader: Callable[..., Reader], *arguments: Any) -> Opener:
    return lambda path: reader(path, *arguments)


@cache
def has_torchcodec() -> bool:
    """Whether torchcodec is installed and finds its ffmpeg; HNV_BENCH_PYAV=1 hides it."""
    if os.environ.get("HNV_BENCH_PYAV"):
        return False
    try:
        import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError):
        return False
    return True
