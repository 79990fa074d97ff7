"""The frames that an encode is asked to code: which source, which of its frames, which mask."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from hnervcodec.errors import SourceError, UsageError
from hnervcodec.masks import read_masks
from hnervcodec.planes import Planes
from hnervcodec.scenes import scan
from hnervcodec.syntax import VideoHeader
from hnervcodec.video import VideoSource


@dataclass(frozen=True)
class Footage:
    """source, skip, limit, every: as `VideoSource` takes them; mask: as `read_masks` does."""

    source: str
    skip: int = 0
    limit: int | None = None
    every: int = 1
    mask: str | None = None

    def open(self) -> VideoSource:
        return VideoSource(self.source, skip=self.skip, limit=self.limit, every=self.every)

    def part(self, first_frame: int, frame_count: int) -> Footage:
        """Some of these frames."""
        skip = self.skip + first_frame * self.every
        return Footage(self.source, skip, frame_count, self.every, self.mask)

    def masks(self, video: VideoHeader) -> Iterator[Planes] | None:
        """The mask of each of the frames."""
        if self.mask is None:
            return None
        return read_masks(self.mask, video, skip=self.skip, every=self.every)

    def check_masks(self, video: VideoHeader, frames: int | None) -> None:
        """That there are enough of them is to be found out now and not after hours. `frames`: None
        where nobody knows."""
        if self.mask is None:
            return
        if not can_be_reread(self.mask):
            raise UsageError("MASK is read twice and cannot be a pipe")
        for _ in islice(self.masks(video) or (), frames or 1):
            pass

    def lengths(
        self, wanted: int, scenecut: float, report: Callable[[int], None]
    ) -> tuple[int, ...] | None:
        """Of the segments, by `scenes.scan`; nobody looks ahead into a pipe. `report` is given the
        number of frames looked at."""
        if not can_be_reread(self.source):
            return None

        def counted(frames: Iterator[Planes]) -> Iterator[Planes]:
            for n, planes in enumerate(frames, 1):
                yield planes
                report(n)

        with self.open() as video:
            lengths = scan(video.header, counted(video.frames()), wanted, scenecut)
        if not lengths:
            raise SourceError("the source holds no frames in the selected range")
        return tuple(lengths)

    def facts(self) -> dict[str, Any]:
        """What tells these frames from others, in JSON's types."""
        mask = identity(self.mask) if self.mask else None
        return asdict(self) | {"source": identity(self.source), "mask": mask}


def identity(path: str) -> list[int] | None:
    """Size and time: a file that has changed has others. None for what is no file."""
    if not os.path.isfile(path):
        return None
    facts = os.stat(path)
    return [facts.st_size, facts.st_mtime_ns]


def can_be_reread(source: str) -> bool:
    """Whether it is not a pipe: a file, or a pattern or an address that libav knows."""
    return source != "-" and (os.path.isfile(source) or not os.path.exists(source))
