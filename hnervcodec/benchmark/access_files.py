"""Files for random access: this codec's, and other codecs' in short groups of pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from hnervcodec.benchmark import other_codecs
from hnervcodec.benchmark.access_readers import picture_of
from hnervcodec.benchmark.frame_quality import Comparison
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.encoding import session
from hnervcodec.encoding.memory_input import MemoryInput
from hnervcodec.encoding.observer import Observer
from hnervcodec.encoding.rate import Rate
from hnervcodec.errors import HnervError, UsageError
from hnervcodec.media.colour import PlaneConverter, RgbConverter
from hnervcodec.planes import Planes
from hnervcodec.system.atomic_files import complete_or_absent

HNV = "hnv"
PICTURES = ("png", "jpeg")  # a file for each frame, in a folder
# Codec and preset -> constant rate factors, as LeRobot's files have them and coarser.
OTHERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("svtav1", "5"): ("30", "40", "50", "60"),
    ("svtav1", "8"): ("30", "40", "50", "60"),
    ("x264", "veryslow"): ("24", "30", "36", "42"),
    ("x265", "slow"): ("24", "30", "36", "42"),
}


@dataclass(frozen=True, slots=True)
class AccessFile:
    """One file of a clip. Sizes are of the whole file for hnv and pictures, else of the elementary
    stream."""

    source: str  # `study.digest` of the frames
    codec: str
    preset: str
    gop: int  # frames from a key frame to the next; 0: any frame without others
    rate: str  # bits per pixel of hnv, of others the constant rate factor
    version: str  # of the codec
    path: str  # relative to the table's folder
    frames: int
    width: int
    height: int
    bytes: int
    psnr_611: float  # dB
    ms_ssim: float  # of luma
    encode_seconds: float

    @property
    def label(self) -> str:
        """Codec and preset."""
        return f"{self.codec} {self.preset}".strip()


def name_of(clip: str, codec: str, preset: str, gop: int, rate: str) -> str:
    """A file's name in the folder of a study."""
    if codec == HNV:
        return f"{clip}-{preset}-{rate}.hnv"
    if codec in PICTURES:
        return f"{clip}-{codec}-{rate}"
    return f"{clip}-{codec}-{preset}-g{gop}-{rate}.mp4"


def measured(
    source: str,
    name: tuple[str, str, int, str, str],
    path: Path,
    header: VideoHeader,
    frames: Sequence[Planes],
    coded: other_codecs.Coded,
) -> AccessFile:
    """What became of the frames. name: codec, preset, gop, rate, version."""
    comparison = Comparison(header)
    for pair in zip(frames, coded.decoded, strict=True):
        comparison.add(*pair)
    found = comparison.whole
    return AccessFile(
        source,
        *name,
        path.name,
        len(frames),
        header.width,
        header.height,
        coded.bytes,
        round(found.psnr_611, 4),
        round(found.ms_ssim, 6),
        round(coded.encode_seconds, 2),
    )


def code_other(
    path: Path,
    codec: str,
    preset: str,
    gop: int,
    rate: str,
    header: VideoHeader,
    frames: list[Planes],
) -> other_codecs.Coded:
    """Another codec's file at `path`, whole or not at all."""
    with complete_or_absent(path) as partial:
        options = {"crf": rate, "preset": preset}
        return other_codecs.code_in_groups(partial, codec, header, frames, options, gop)


def code_hnv(
    path: Path,
    preset: str,
    rate: str,
    header: VideoHeader,
    frames: list[Planes],
    observer: Observer,
) -> other_codecs.Coded:
    """This codec's file at `path`; one that is there is taken as it is. UsageError if that is of
    other frames."""
    start = time.monotonic()
    if not path.exists():
        options = session.EncodeOptions(rate=Rate(bpp=float(rate)), preset=preset, tune="psnr")
        with complete_or_absent(path) as partial, open(partial, "wb") as file:
            source = MemoryInput(header, frames)
            session.encode(source, file, options, observer=observer)
    encoded = time.monotonic()
    with Decoder(path) as decoder:
        video = decoder.video
        if (video.width, video.height, len(decoder)) != (header.width, header.height, len(frames)):
            raise UsageError(f"{path} holds other frames: move it away")
        decoded = [planes for _, planes in decoder.frames(range(len(decoder)))]
    seconds = time.monotonic() - encoded
    return other_codecs.Coded(path.stat().st_size, decoded, encoded - start, seconds)


def code_pictures(
    path: Path, kind: str, rate: str, header: VideoHeader, frames: list[Planes]
) -> other_codecs.Coded:
    """A folder of pictures in RGB. kind: one of `PICTURES`; rate: the quality of JPEG, "0" for PNG.
    ImportError without Pillow."""
    image = import_module("PIL.Image")
    to_rgb, to_planes = RgbConverter(header), PlaneConverter(header)
    path.mkdir(exist_ok=True)
    decoded, size, start = [], 0, time.monotonic()
    options = {"quality": int(rate), "optimize": True} if kind == "jpeg" else {"optimize": True}
    for n, planes in enumerate(frames):
        picture = picture_of(path, n)
        image.fromarray(to_rgb(planes)).save(picture, kind, **options)
        size += picture.stat().st_size
        rgb = np.asarray(image.open(picture).convert("RGB"))
        decoded.append(to_planes(rgb) if kind == "jpeg" else planes)
    return other_codecs.Coded(size, decoded, time.monotonic() - start, 0)


Said = Callable[[str], None]


def missing(name: str, header: VideoHeader, frame: Planes, say: Said) -> bool:
    """Whether another codec cannot code such frames here, which is said."""
    try:
        other_codecs.check(name, header, frame)
    except HnervError as error:
        say(f"note: {error}")
        return True
    return False
