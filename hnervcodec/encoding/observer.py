"""Who hears what an encode does while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.fitting.progress import Progress

if TYPE_CHECKING:
    from hnervcodec.encoding.manifest import EncodedVideo


class Observer:
    """Hears what an encode does while it runs. The methods here do nothing; a class of its own
    overrides those that it wants."""

    def opened(self, video: VideoHeader) -> None:
        """The source is open, and holds such frames."""

    def scanned(self, frames: int) -> None:
        """So many frames have been searched for changes of scene."""

    def planned(self, lengths: dict[int, int], segments: int) -> None:
        """The video has so many `segments`, of which those with these numbers and lengths in
        frames are to be fitted; nothing and 0 where nobody knows beforehand."""

    def noted(self, note: str) -> None:
        """Something of the source will be lost or converted."""

    def progressed(self, number: int, progress: Progress) -> None:
        """The fit of segment `number`, from 0, has come so far."""


class ManyObserver:
    """The same for an encode of many videos, which are numbered from 0."""

    def looked_at(self, count: int, total: int) -> None:
        """So many of the sources have been opened, to see what is to be done."""

    def planned(self, work: dict[int, float], total: int) -> None:
        """Of `total` videos those with these numbers are to be encoded. work: of each, in samples,
        about."""

    def progressed(self, number: int, share: float) -> None:
        """That share, 0..1, of a video's fits is behind us."""

    def finished(self, number: int, video: EncodedVideo) -> None:
        """A video is finished, was finished already, or has failed."""
