"""Measures this codec and the classical ones on the same frames, at the same rates."""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hnervcodec.benchmark import other_codecs
from hnervcodec.benchmark.bd_rate import bd_rate
from hnervcodec.benchmark.frame_quality import Comparison, Quality
from hnervcodec.benchmark.plots import picture, rate_axis
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.encoding import defaults, session
from hnervcodec.encoding.memory_input import MemoryInput
from hnervcodec.encoding.observer import Observer
from hnervcodec.encoding.plan import Plan, Settings
from hnervcodec.encoding.rate import Rate
from hnervcodec.media.scenes import scan
from hnervcodec.planes import Planes, plane_bytes


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: a codec with its preset, at a rate, on one source."""

    source: str  # SHA-256 over size, depth and all frames, first 12 digits
    codec: str  # hnv, or one of other_codecs.CODECS
    preset: str
    rate: float  # bits per pixel that may not be exceeded
    version: str  # of the codec


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured of one `Case`. Sizes are of the whole file for hnv, else of the elementary
    stream."""

    source: str
    codec: str
    preset: str
    rate: float
    version: str
    crf: str  # of a classical codec: the constant rate factor that came nearest to the rate
    frames: int
    width: int
    height: int
    bytes: int
    psnr_y: float
    psnr_cb: float
    psnr_cr: float
    psnr_611: float  # (6 Y + Cb + Cr) / 8
    ssim: float  # over all samples
    ms_ssim: float  # of luma
    encode_seconds: float
    decode_seconds: float

    @property
    def bpp(self) -> float:
        """Bits per pixel."""
        return 8 * self.bytes / (self.frames * self.width * self.height)

    @property
    def case(self) -> Case:
        """What this is the measurement of."""
        return Case(self.source, self.codec, self.preset, self.rate, self.version)


def digest(header: VideoHeader, frames: Iterable[Planes]) -> str:
    """A hash over size, depth and all samples: a `Case`'s source."""
    made = hashlib.sha256(repr((header.width, header.height, header.bit_depth)).encode())
    for planes in frames:
        made.update(plane_bytes(planes))
    return made.hexdigest()[:12]


def check(
    header: VideoHeader, frames: list[Planes], preset: str, rates: list[float]
) -> tuple[int, ...]:
    """The lengths of the segments, in frames, into which hnv cuts the video; UsageError if it
    cannot code such frames at one of the rates, in bits per pixel."""
    lengths = tuple(scan(header, frames, defaults.SEGMENT_FRAMES, defaults.SCENECUT, True))
    for rate in rates:
        wanted = _bytes_per_frame(header, rate)
        Plan.of(header, Settings(bytes_per_frame=wanted, preset=preset, lengths=lengths))
    return lengths


def _bytes_per_frame(header: VideoHeader, rate: float) -> float:
    return rate * header.width * header.height / 8


def measure(
    case: Case,
    header: VideoHeader,
    frames: list[Planes],
    lengths: tuple[int, ...],
    observer: Observer,
    on_trial: Callable[[other_codecs.Coded], None],
) -> Point:
    """Encodes, decodes and compares.

    lengths: of hnv's segments, as `check` returns them. observer: hears of hnv's encode; on_trial:
    of another codec's trials.
    """
    if case.codec in other_codecs.CODECS:
        size = math.floor(_bytes_per_frame(header, case.rate) * len(frames))
        coded = other_codecs.code_at(case.codec, header, frames, size, case.preset, on_trial)
    else:
        coded = _code(case, MemoryInput(header, frames, lengths=lengths), observer)
    found = _quality(header, frames, coded.decoded)
    return Point(
        case.source,
        case.codec,
        case.preset,
        case.rate,
        case.version,
        coded.crf,
        len(frames),
        header.width,
        header.height,
        coded.bytes,
        round(found.psnr_y, 4),
        round(found.psnr_cb, 4),
        round(found.psnr_cr, 4),
        round(found.psnr_611, 4),
        round(found.ssim_all, 6),
        round(found.ms_ssim, 6),
        round(coded.encode_seconds, 3),
        round(coded.decode_seconds, 3),
    )


def _code(case: Case, source: MemoryInput, observer: Observer) -> other_codecs.Coded:
    """What this codec makes of the source, as `hnv encode` does it."""
    options = session.EncodeOptions(rate=Rate(bpp=case.rate), preset=case.preset)
    file, start = io.BytesIO(), time.monotonic()
    session.encode(source, file, options, observer=observer)
    encoded, coded = time.monotonic(), file.getvalue()
    with Decoder(coded) as decoder:
        decoded = [planes for _, planes in decoder.frames(range(len(decoder)))]
    return other_codecs.Coded(len(coded), decoded, encoded - start, time.monotonic() - encoded)


def _quality(header: VideoHeader, frames: list[Planes], decoded: list[Planes]) -> Quality:
    comparison = Comparison(header)
    for pair in zip(frames, decoded, strict=True):
        comparison.add(*pair)
    return comparison.whole


def curves(points: Iterable[Point]) -> dict[str, list[Point]]:
    """The points of each codec by size; several rates may have led to one and the same."""
    made: dict[str, dict[int, Point]] = {}
    for point in points:
        made.setdefault(point.codec, {})[point.bytes] = point
    return {codec: sorted(line.values(), key=lambda p: p.bytes) for codec, line in made.items()}


def bd_rates(points: Iterable[Point]) -> dict[str, dict[str, float]]:
    """By anchor, then by codec: BD-rates by 6:1:1 PSNR, percent."""
    lines = {codec: [(p.bytes, p.psnr_611) for p in line] for codec, line in curves(points).items()}
    return {
        anchor: {test: bd_rate(lines[anchor], lines[test]) for test in lines if test != anchor}
        for anchor in lines
    }


def plot(path: str, points: list[Point], title: str) -> None:
    """6:1:1 PSNR over bits per pixel, as a PNG. ImportError without matplotlib."""
    with picture(path, title=title) as axes:
        for codec, line in curves(points).items():
            label = f"{codec} {line[0].preset}"
            axes.plot([p.bpp for p in line], [p.psnr_611 for p in line], "o-", label=label)
        axes.set(xlabel="bits per pixel", ylabel="PSNR 6:1:1, dB")
        rate_axis(axes, sorted({p.rate for p in points}))
