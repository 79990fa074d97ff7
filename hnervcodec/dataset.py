"""Frames of `.hnv` files for training: any of them in one forward pass, in any order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from hnervcodec.decoder import Decoder


class FrameDataset(Dataset[Tensor]):
    """All frames of one or more `.hnv` files, one after the other, in RGB (uint8 [3, H, W]).

    `options` are those of `Decoder`. Works in a DataLoader's worker processes; there, `threads=1`
    keeps them out of each other's way.

    >>> loader = DataLoader(FrameDataset(["a.hnv", "b.hnv"], threads=1), 16, True, num_workers=4)
    """

    def __init__(self, files: str | Path | Sequence[str | Path], **options: Any):
        if isinstance(files, str | Path):
            files = [files]
        self.decoders = [Decoder(path, **options) for path in files]
        self._ends = list(accumulate(map(len, self.decoders)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _place(self, index: int) -> tuple[Decoder, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        index %= len(self)
        file = bisect_right(self._ends, index)
        return self.decoders[file], index - (self._ends[file - 1] if file else 0)

    def __getitem__(self, index: int) -> Tensor:
        decoder, local = self._place(index)
        return decoder[local]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch at once: frames of one segment that follow each other share forward passes."""
        made: list[Tensor] = []
        places = [self._place(index) for index in indices]
        while len(made) < len(places):
            decoder, start = places[len(made)][0], len(made)
            stop = next(
                (n for n in range(start, len(places)) if places[n][0] is not decoder), len(places)
            )
            made += decoder.get_frames_at([local for _, local in places[start:stop]]).data
        return made
