"""A torch `Dataset` of the frames of `.hnv` files: any frame in one forward pass, in any order."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from hnervcodec.decoding.decoder import Decoder
from hnervcodec.system.numbers import whole

MAX_OPEN_FILES = 16  # at a time


class FrameDataset(Dataset[Tensor]):
    """All frames of one or more `.hnv` files, one after the other, in RGB (uint8 [3, H, W]).

    `options` are those of `Decoder`. Works in a DataLoader's worker processes; there, `threads=1`
    keeps them out of each other's way.

    >>> loader = DataLoader(FrameDataset(["a.hnv", "b.hnv"], threads=1), 16, True, num_workers=4)
    """

    def __init__(self, files: str | Path | Sequence[str | Path], **options: Any):
        self.files = [files] if isinstance(files, str | Path) else list(files)
        self._options = options
        self._open: OrderedDict[int, Decoder] = OrderedDict()
        self._ends = list(accumulate(len(self._decoder(n)) for n in range(len(self.files))))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _decoder(self, file: int) -> Decoder:
        if file not in self._open:
            self._open[file] = Decoder(self.files[file], **self._options)
            if len(self._open) > MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(file)
        return self._open[file]

    def _place(self, index: int) -> tuple[int, int]:
        """(number of the file, frame in it) of a frame of the dataset."""
        index = whole("index", index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        index %= len(self)
        file = bisect_right(self._ends, index)
        return file, index - (self._ends[file - 1] if file else 0)

    def __getitem__(self, index: int) -> Tensor:
        file, local = self._place(index)
        return self._decoder(file)[local]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch at once: frames of one segment that follow each other share forward passes."""
        frames: list[Tensor] = []
        for file, group in groupby(map(self._place, indices), key=lambda place: place[0]):
            frames += self._decoder(file).get_frames_at([local for _, local in group]).data
        return frames
