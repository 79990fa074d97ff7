"""Frames that a program holds, as `FileInput` gives those of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from hnervcodec.bitstream.ancillary import Display
from hnervcodec.bitstream.fields import ByteReader, ByteWriter
from hnervcodec.bitstream.headers import VideoHeader, read_video_header, write_video_header
from hnervcodec.bitstream.side_data import SideData
from hnervcodec.encoding.defaults import SEGMENT_FRAMES
from hnervcodec.encoding.file_input import Scan, missed_masks
from hnervcodec.errors import HnervError, UsageError
from hnervcodec.media.colour import PlaneConverter
from hnervcodec.media.masks import read_masks
from hnervcodec.media.scenes import scan
from hnervcodec.media.video_decoder import Damage
from hnervcodec.planes import Planes, plane_shapes
from hnervcodec.system import numbers

if TYPE_CHECKING:
    from torch import Tensor

BT709, LEFT = 1, 0  # H.273
WHOLE_FIELDS = (  # of VideoHeader
    "width", "height", "chroma_format", "bit_depth", "chroma_siting", "colour_primaries",
    "transfer_characteristics", "matrix_coefficients",
)  # fmt: skip


class MemoryInput:
    """Frames that a program holds as planes, to be encoded like a file's.

    video: what describes `frames`. Their planes are checked as they come; only a sequence can
    be looked at before it is encoded.
    lengths: of the segments in frames, where a scan has found them already."""

    can_be_reread = False  # by other processes
    notes: tuple[str, ...] = ()  # nothing of them is lost
    damage = Damage()

    def __init__(
        self,
        video: VideoHeader,
        frames: Iterable[Planes],
        mask: str | None = None,
        lengths: tuple[int, ...] = (),
    ):
        self.header, self._frames, self._mask = checked(video), frames, mask
        self._lengths = lengths

    def open(self) -> nullcontext[MemoryInput]:
        return nullcontext(self)

    def frames(self) -> Iterator[Planes]:
        video = self.header
        shapes = plane_shapes(video.width, video.height, video.chroma_format)
        dtype = np.dtype(np.uint8 if video.bit_depth == 8 else np.uint16)
        for n, planes in enumerate(self._frames):
            if [(p.shape, p.dtype) for p in planes] != [(shape, dtype) for shape in shapes]:
                found = ", ".join(f"{p.dtype} {list(p.shape)}" for p in planes)
                raise UsageError(f"frame {n} has planes {found}: not {dtype} {shapes}")
            if dtype != np.uint8 and max(int(p.max()) for p in planes) > video.max_sample:
                raise UsageError(f"frame {n} has samples above {video.max_sample}")
            yield planes

    def masks(self, video: VideoHeader) -> Iterator[Planes] | None:
        return None if self._mask is None else read_masks(self._mask, video)

    def check_masks(self, video: VideoHeader, scan: Scan | None) -> list[str]:
        return missed_masks(self._mask, self.masks(video), scan)

    def scan(
        self, wanted: int | None, scenecut: float, report: Callable[[int], None]
    ) -> Scan | None:
        if not isinstance(self._frames, Sequence):
            return None
        about = wanted or SEGMENT_FRAMES
        lengths = self._lengths or scan(self.header, self.frames(), about, scenecut, wanted is None)
        if not lengths:
            raise UsageError("there are no frames")
        return Scan(tuple(lengths), (), None, (Fraction(0), None, None), Display(), ())

    def side_data(self, video: VideoHeader, scan: Scan | None) -> tuple[SideData | None, list[str]]:
        """Neither sound nor times: only that there are so many frames at the header's rate."""
        return SideData(sum(scan.lengths), video.frame_rate) if scan else None, []

    def facts(self) -> dict[str, Any]:
        return {"source": None}


def checked(video: VideoHeader) -> VideoHeader:
    """`video` with Python's numbers in place of numpy's or torch's, and without a frame count;
    UsageError if no file can hold it."""
    num, den = video.sample_aspect
    made = replace(
        video,
        frame_rate=numbers.exact("frame_rate", video.frame_rate),
        sample_aspect=(numbers.whole("sample_aspect", num), numbers.whole("sample_aspect", den)),
        full_range=bool(video.full_range),
        frame_count=0,
        **{name: numbers.whole(name, getattr(video, name)) for name in WHOLE_FIELDS},
    )
    try:
        writer = ByteWriter()
        write_video_header(writer, made)
        read_video_header(ByteReader(writer.getvalue()))
    except (HnervError, OverflowError, ValueError) as error:
        raise UsageError(f"no file can hold such a video: {error}") from error
    return made


class RgbFrames(Sequence[Planes]):
    """An array of RGB frames, uint8 [T, H, W, 3], as a sequence of planes: 4:2:0 in BT.709 of
    limited range, as most video is. UsageError for other arrays, and for what is no frame rate."""

    def __init__(self, array: np.ndarray | Tensor, frame_rate: float | Fraction):
        self._array = array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()
        if self._array.dtype != np.uint8 or self._array.ndim != 4 or self._array.shape[3] != 3:
            found = f"{self._array.dtype} {list(self._array.shape)}"
            raise UsageError(f"an array of frames is uint8 [T, H, W, 3] in RGB, not {found}")
        height, width = self._array.shape[1:3]
        rate = numbers.exact("frame_rate", frame_rate)
        if not 1e-3 <= rate <= 1e6 or max(width, height) > 65535 or 0 in self._array.shape:
            count = len(self._array)
            raise UsageError(f"{count} x {width}x{height} at {frame_rate} frames/s is no video")
        self.video = VideoHeader(
            width,
            height,
            1,
            rate.limit_denominator(1001),
            chroma_siting=LEFT,
            colour_primaries=BT709,
            transfer_characteristics=BT709,
            matrix_coefficients=BT709,
        )
        self._to_planes = PlaneConverter(self.video)

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, n: Any) -> Any:
        return self._to_planes(self._array[n])
