"""How large or how good a file is to be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hnervcodec.errors import UsageError
from hnervcodec.system import numbers

if TYPE_CHECKING:
    from hnervcodec.bitstream.headers import VideoHeader
    from hnervcodec.bitstream.side_data import SideData
    from hnervcodec.encoding.file_input import Scan
    from hnervcodec.encoding.plan import Settings


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How large or how good a file is asked to be: exactly one of these.

    bpp: bits per pixel. bitrate: bits per second. Both of the video alone.
    size: bytes of the whole file.
    psnr: dB over all samples. quality: a constant quality, about 30 (poor) to 45.
    denoise: as many bytes as best tell the video from its noise.
    """

    bpp: float | None = None
    bitrate: float | None = None
    size: float | None = None
    psnr: float | None = None
    quality: float | None = None
    denoise: bool | None = None

    def __post_init__(self) -> None:
        numbers.convert(self, reals=("bpp", "bitrate", "size", "psnr", "quality"))
        if sum(choice is not None for choice in asdict(self).values()) != 1:
            raise UsageError(
                "choose the rate by exactly one of `bpp`, `bitrate` and `size`, "
                "or the quality by `psnr` or `quality`, or take `denoise=True`"
            )
        for name in ("bpp", "bitrate", "size"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"`{name}` {value} is not a positive number")

    def settings(
        self, video: VideoHeader, scan: Scan | None, side_data: SideData | None, **others: Any
    ) -> Settings:
        """What that means for `video`.

        scan, side_data: of its frames and of what the file will hold with them; both None where
        nobody knows the frames beforehand. others: the other arguments of `Settings`.
        """
        from hnervcodec.encoding.plan import Settings

        if scan is None or side_data is None:
            return Settings(**others, **self._choice(video))
        chosen = self._choice(video, sum(scan.lengths), side_data.size(scan.lengths))
        return Settings(**others, **chosen, lengths=scan.lengths)

    def _choice(
        self, video: VideoHeader, frames: int | None = None, side_data_bytes: int = 0
    ) -> dict[str, Any]:
        """Arguments of `Settings`. frames: None where nobody knows how many there are."""
        from hnervcodec.fitting.quality_target import ConstantPsnr, ConstantQuality

        if self.denoise:
            return {"denoise": True}
        if self.psnr is not None:
            return {"aim": ConstantPsnr(self.psnr)}
        if self.quality is not None:
            return {"aim": ConstantQuality(self.quality)}
        if self.bpp is not None:
            return {"bytes_per_frame": self.bpp * video.width * video.height / 8}
        if self.bitrate is not None:
            return {"bytes_per_frame": self.bitrate / 8 / float(video.frame_rate)}
        if self.size is None or frames is None:
            raise UsageError(
                "`size` needs a file, as a pipe's length is unknown: use `bpp` or `bitrate`"
            )
        if side_data_bytes >= self.size:
            raise UsageError(
                f"sound and the like take {side_data_bytes:,} bytes of the {self.size:,.0f} "
                "asked for: leave the sound out with `audio=none`, or ask for more"
            )
        return {"bytes_per_frame": (self.size - side_data_bytes) / frames}

    def check(self, video: VideoHeader) -> None:
        """UsageError for what can be refused before the source is read."""
        from hnervcodec.encoding.plan import check_rate

        if self.size is None and (rate := self._choice(video).get("bytes_per_frame")):
            check_rate(video, rate)
