"""Frames in RGB and facts of a video, as `Decoder` returns them; the names are torchcodec's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame in RGB."""

    data: Tensor  # [3, H, W], or [H, W, 3] if asked for; uint8 of 0..255 or float32 of 0..1
    pts_seconds: float  # when it is shown
    duration_seconds: float  # for how long
    index: int  # in the video; of the frame before, if this one lies between two


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Several frames in RGB, in the order in which they were asked for."""

    data: Tensor  # [N, 3, H, W] or [N, H, W, 3]
    pts_seconds: Tensor  # float64 [N]
    duration_seconds: Tensor  # float64 [N]
    index: Tensor  # int64 [N]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, n: int) -> Frame:
        return Frame(
            self.data[n],
            float(self.pts_seconds[n]),
            float(self.duration_seconds[n]),
            int(self.index[n]),
        )

    def __iter__(self) -> Iterator[Frame]:
        return (self[n] for n in range(len(self)))


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """Facts of the video; the names are those of torchcodec's `VideoStreamMetadata`."""

    width: int  # pixels
    height: int
    num_frames: int
    average_fps: float
    duration_seconds: float  # from the begin of the first frame to the end of the last
    bit_rate: float  # of the whole file, bits per second
    pixel_aspect_ratio: Fraction | None  # None: unspecified
    codec: str = "hnv"
    stream_index: int = 0
    begin_stream_seconds: float = 0.0  # when the first frame is shown
    end_stream_seconds: float = 0.0  # when the last one is not shown any more

    @property
    def num_frames_from_header(self) -> int:
        """torchcodec's name for `num_frames`."""
        return self.num_frames

    @property
    def num_frames_from_content(self) -> int:
        """torchcodec's name for `num_frames`."""
        return self.num_frames

    @property
    def average_fps_from_header(self) -> float:
        """torchcodec's name for `average_fps`."""
        return self.average_fps

    @property
    def duration_seconds_from_header(self) -> float:
        """torchcodec's name for `duration_seconds`."""
        return self.duration_seconds

    @property
    def begin_stream_seconds_from_header(self) -> float:
        """torchcodec's name for `begin_stream_seconds`."""
        return self.begin_stream_seconds

    @property
    def begin_stream_seconds_from_content(self) -> float:
        """torchcodec's name for `begin_stream_seconds`."""
        return self.begin_stream_seconds

    @property
    def end_stream_seconds_from_content(self) -> float:
        """torchcodec's name for `end_stream_seconds`."""
        return self.end_stream_seconds
