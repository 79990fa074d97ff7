"""`.hnv` files in imageio: `iio.imread("x.hnv", index=3)`, `imiter`, `improps`, `immeta`."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from types import EllipsisType
from typing import Any

import numpy as np
from imageio.config import FileExtension, PluginConfig, known_extensions, known_plugins
from imageio.core.request import InitializationError, IOMode, Request
from imageio.core.v3_plugin_api import ImageProperties, PluginV3

from hnervcodec.bitstream.container import SIGNATURE
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.media.colour import RgbConverter
from hnervcodec.planes import CHROMA_NAMES

Index = int | EllipsisType


def register_imageio() -> None:
    """Make imageio's v3 functions read `.hnv` files, in this process.

    imageio finds plugins in a table of its own and not through entry points, so that a program has
    to say this once; again does no harm. ImportError without imageio: `pip install imageio`.
    """
    known_plugins["hnv"] = PluginConfig("hnv", "HnvPlugin", __name__, install_name="hnervcodec")
    known_extensions[".hnv"] = [
        FileExtension(name="Neural video", extension=".hnv", priority=["hnv"])
    ]


class HnvPlugin(PluginV3):
    """Frames in RGB, uint8 [H, W, 3]; above 8 bits too, as `Decoder` gives them.

    An index is a frame; ... (the default) is all of them as one array [T, H, W, 3], for which
    `iio.imiter` needs less memory. ValueError if there is no such frame. Reads only.
    """

    def __init__(self, request: Request):
        super().__init__(request)
        if request.mode.io_mode != IOMode.read:
            raise InitializationError(
                "hnervcodec.encode writes .hnv files, imageio only reads them"
            )
        file = request.get_file()
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise InitializationError(f"{request.raw_uri!r:.99} is not a .hnv file")
        self._decoder = Decoder(file)
        self._to_rgb = RgbConverter(self._decoder.video)

    def read(self, *, index: Index = ...) -> np.ndarray:
        if index is ...:
            video = self._decoder.video
            frames = np.empty((video.frame_count, video.height, video.width, 3), np.uint8)
            for out, frame in zip(frames, self.iter(), strict=True):
                out[...] = frame
            return frames
        return self._to_rgb(self._decoder.get_planes_at(self._checked(index)))

    def iter(self) -> Iterator[np.ndarray]:
        for _, planes in self._decoder.frames(range(len(self._decoder))):
            yield self._to_rgb(planes)

    def properties(self, index: Index = ...) -> ImageProperties:
        video = self._decoder.video
        shape: tuple[int, ...] = (video.height, video.width, 3)
        if index is not ...:
            self._checked(index)
            return ImageProperties(shape, np.dtype(np.uint8))
        count = video.frame_count
        return ImageProperties((count, *shape), np.dtype(np.uint8), count, is_batch=True)

    def metadata(self, index: Index = ..., exclude_applied: bool = True) -> dict[str, Any]:
        """Facts of the video, whatever the frame; the names are those of imageio's PyAV plugin
        where it has any. The format of the planes is applied: frames come in RGB."""
        facts = self._decoder.metadata
        metadata: dict[str, Any] = {
            "codec": facts.codec,
            "fps": facts.average_fps,
            "duration": facts.duration_seconds,
            "frames": facts.num_frames,
            "bit_rate": facts.bit_rate,
        }
        if not exclude_applied:
            video = self._decoder.video
            metadata |= {"chroma": CHROMA_NAMES[video.chroma_format], "bit_depth": video.bit_depth}
        return metadata

    def _checked(self, index: Index) -> int:
        number, count = operator.index(index), len(self._decoder)  # type: ignore[arg-type]
        if not -count <= number < count:
            raise ValueError(f"frame {number} of {count}")
        return number
