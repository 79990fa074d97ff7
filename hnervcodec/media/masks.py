"""Masks say which samples of a video are damaged or unwanted, so that no fit resembles them.

A mask is a tuple of planes like the frame's, `bool`, True where a sample is masked. A chroma sample
is masked where any of the luma samples it belongs to is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import chain, count, islice, repeat
from pathlib import Path

import numpy as np

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import SourceError
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import Planes, plane_shapes


def read_masks(
    path: str | Path, video: VideoHeader, *, skip: int = 0, every: int = 1
) -> Iterator[Planes]:
    """Yields the mask of each frame that `VideoSource(source, skip=skip, every=every)` selects, for
    ever where the masks do not end.

    `path`: a picture for all frames, or a video with a frame for each of the source's, both of the
    source's size and masked where they are at least half white; or JSON, a list of boxes
    `{"x": 0, "y": 0, "width": 50, "height": 50, "first": 0, "last": 9}` in luma samples, of which
    `first` and `last` (source frames, both included) may be absent.
    SourceError for masks that cannot be read, are damaged, have another size, or end before the
    video.
    """
    if str(path).lower().endswith(".json"):
        boxes = _read_boxes(path)
        for number in count(skip, every):
            boxed = np.zeros((video.height, video.width), bool)
            for box in boxes:
                if box.first <= number <= box.last:
                    boxed[box.y : box.y + box.height, box.x : box.x + box.width] = True
            yield _planes(boxed, video)
    with VideoSource(path) as source:
        found = source.header
        if (found.width, found.height) != (video.width, video.height):
            raise SourceError(
                f"{path}: the mask is {found.width}x{found.height}, the video {video.width}x"
                f"{video.height}"
            )
        lumas = ((planes[0] > found.max_sample / 2) for planes in _without_losses(source))
        first = list(islice(lumas, 2))
        if len(first) == 1:
            yield from repeat(_planes(first[0], video))
        number = -1
        for number, luma in enumerate(chain(first, lumas)):
            if number >= skip and (number - skip) % every == 0:
                yield _planes(luma, video)
        raise SourceError(f"{path}: the masks end at frame {number}, the video goes on")


def _without_losses(source: VideoSource) -> Iterator[Planes]:
    """The frames of a video of masks; SourceError if one is lost, which would shift the others."""
    for planes in source.frames():
        if source.damage.lost:
            raise SourceError(
                f"{source.name}: {source.damage.notes()[0]}, which a mask must not be"
            )
        yield planes


@dataclass(frozen=True)
class _Box:
    x: int
    y: int
    width: int
    height: int
    first: int = 0
    last: int = 1 << 32

    def __post_init__(self) -> None:
        values = [getattr(self, field.name) for field in fields(self)]
        if not all(type(value) is int and value >= 0 for value in values):
            raise ValueError("holds something else than whole numbers from 0")
        if not self.width or not self.height or self.first > self.last:
            raise ValueError("is empty")


def _read_boxes(path: str | Path) -> list[_Box]:
    try:
        listed = json.loads(Path(path).read_text())
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is no JSON: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(box, dict) for box in listed):
        raise SourceError(f"{path}: not a list of boxes")
    boxes = []
    for n, box in enumerate(listed):
        try:
            boxes.append(_Box(**box))
        except ValueError as error:
            raise SourceError(f"{path}: box {n} {error}") from error
        except TypeError as error:
            names = ", ".join(field.name for field in fields(_Box))
            raise SourceError(f"{path}: box {n} does not have the keys {names}") from error
    return boxes


def _planes(luma: np.ndarray, video: VideoHeader) -> Planes:
    """The masks of all planes, from the mask of the luma plane: bool [H, W]."""
    planes: list[np.ndarray] = []
    for height, width in plane_shapes(video.width, video.height, video.chroma_format):
        rows, columns = -(-video.height // height), -(-video.width // width)
        missing = height * rows - video.height, width * columns - video.width
        padded = np.pad(luma, ((0, missing[0]), (0, missing[1])))
        planes.append(np.asarray(padded.reshape(height, rows, width, columns).any((1, 3))))
    return tuple(planes)


def fill(frames: list[Planes], masks: Iterable[Planes], middle: int) -> list[Planes]:
    """Copies frames with every masked sample replaced, so that nothing of what was masked is left:
    by the mean of that sample over the frames that show it; where none does, by the mean of all
    that its plane shows; in a plane that is never shown, by `middle`.

    SourceError if no frame shows any luma.
    """
    masks = list(masks)
    filled: list[list[np.ndarray]] = [[] for _ in frames]
    for n, first in enumerate(frames[0]):
        total, shown = np.zeros(first.shape, np.int64), np.zeros(first.shape, np.int64)
        for planes, mask in zip(frames, masks, strict=True):
            total += np.where(mask[n], 0, planes[n])
            shown += ~mask[n]
        if n == 0 and not shown.any():
            raise SourceError("the mask leaves nothing of the video to be seen")
        grey = total.sum() / shown.sum() if shown.any() else middle
        mean = np.where(shown, total / np.maximum(shown, 1), grey)
        mean = np.rint(mean).astype(first.dtype)
        for planes, mask, out in zip(frames, masks, filled, strict=True):
            out.append(np.where(mask[n], mean, planes[n]))
    return [tuple(planes) for planes in filled]


def restored(source: Planes, decoded: Planes, mask: Planes) -> Planes:
    """The source's samples where they are not masked, and the decoded ones where they are."""
    return tuple(
        np.where(masked, inside, outside)
        for outside, inside, masked in zip(source, decoded, mask, strict=True)
    )
