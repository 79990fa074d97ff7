"""The points that tools/rd measures, and the table that keeps them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reference import ROOT

from hnervcodec.benchmark import csv_rows

POINTS = ROOT / "tools/results/rd/points.csv"


@dataclass(frozen=True)
class Job:
    """One encode. `rate`: bits per pixel for hnv, the constant rate factor for the others."""

    clip: str
    codec: str  # "hnv" | "libx264" | "libx265" | "libsvtav1"
    preset: str
    rate: float
    variant: str = ""  # "psnr": the classical codec's tune; for hnv: a key of ABLATIONS


@dataclass(frozen=True)
class Point:
    """One measurement: a row of points.csv. Sizes are of the whole file or elementary stream."""

    clip: str
    codec: str
    preset: str
    rate: float
    variant: str
    content: str  # SHA-256 over all frames, first 12 digits
    version: str  # of the codec; for hnv a hash of the encoder's code
    frames: int
    width: int
    height: int
    bytes: int
    psnr_y: float
    psnr_cb: float
    psnr_cr: float
    psnr_average: float  # over all samples
    psnr_611: float  # (6 Y + Cb + Cr) / 8
    psnr_rgb: float  # mean of the frames' in RGB, as the NeRV papers report it; nan: not taken
    ms_ssim: float  # of luma, mean over the frames
    encode_seconds: float
    decode_seconds: float
    threads: int  # that torch had for both
    weights: int  # hnv only
    macs_per_pixel: float  # hnv only
    commit: str

    @property
    def bpp(self) -> float:
        return 8 * self.bytes / (self.frames * self.width * self.height)

    @property
    def job(self) -> Job:
        return Job(self.clip, self.codec, self.preset, self.rate, self.variant)


# Versions of hnv that make the same files, byte for byte, by what their code hashed to: the one
# before its modules moved into packages (commit 535925a), and the one that the moves ended in.
MOVED = {"9ad67ed20ed2": "5ddbca3e63c1"}


def load() -> list[Point]:
    """Every measured point, oldest first, under the present name of its version."""
    points = csv_rows.load(POINTS, Point)
    return [replace(point, version=MOVED.get(point.version, point.version)) for point in points]
