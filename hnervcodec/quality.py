"""How much a video differs from its source, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
import torch

from hnervcodec.libav import FrameComparison
from hnervcodec.losses import ms_ssim
from hnervcodec.metrics import psnr
from hnervcodec.planes import Planes
from hnervcodec.syntax import VideoHeader


@dataclass(frozen=True, slots=True)
class FrameQuality:
    """PSNRs in dB and SSIMs as ffmpeg's filters define them; nan for planes that there are not."""

    frame: int
    psnr_y: float
    psnr_cb: float
    psnr_cr: float
    psnr_average: float  # over all samples
    psnr_611: float  # (6 Y + Cb + Cr) / 8
    ssim_y: float
    ssim_cb: float
    ssim_cr: float
    ssim_all: float  # over all samples
    ms_ssim: float  # of luma


def compare(video: VideoHeader, pairs: Iterable[tuple[Planes, Planes]]) -> Iterator[FrameQuality]:
    """(reference, distorted) frame by frame; `video` describes both."""
    measure = FrameComparison(video)
    for n, (reference, distorted) in enumerate(pairs):
        found = measure(reference, distorted)
        mses = [found.get(f"mse.{plane}", math.nan) for plane in "yuv"]
        sizes = [plane.size for plane in reference]
        average = sum(m * s for m, s in zip(mses, sizes, strict=False)) / sum(sizes)
        y, cb, cr = (psnr(mse, video.max_sample) for mse in mses)
        weighted = y if len(sizes) == 1 else (6 * y + cb + cr) / 8
        luma = (
            torch.from_numpy(planes[0].astype(np.float32) / video.max_sample)[None, None]
            for planes in (reference, distorted)
        )
        ssims = [found.get(f"ssim.{plane}", math.nan) for plane in ("Y", "U", "V", "All")]
        yield FrameQuality(
            n, y, cb, cr, psnr(average, video.max_sample), weighted, ssims[0], ssims[1], ssims[2],
            ssims[3], float(ms_ssim(*luma)),
        )  # fmt: skip


def summary(video: VideoHeader, frames: list[FrameQuality]) -> dict[str, float]:
    """Of the whole video. PSNRs are those of the mean squared errors, as ffmpeg sums them up; the
    others are means over the frames."""
    made: dict[str, float] = {}
    for name in asdict(frames[0]):
        values = [getattr(frame, name) for frame in frames]
        if name in ("psnr_y", "psnr_cb", "psnr_cr", "psnr_average"):
            made[name] = psnr(fmean(video.max_sample**2 * 10 ** (-v / 10) for v in values),
                              video.max_sample)  # fmt: skip
        elif name == "psnr_611":
            planes = made["psnr_y"], made["psnr_cb"], made["psnr_cr"]
            grey = math.isnan(planes[1])
            made[name] = planes[0] if grey else (6 * planes[0] + planes[1] + planes[2]) / 8
        elif name != "frame":
            made[name] = fmean(values)
    return made


def plot(path: str, frames: list[FrameQuality], title: str) -> None:
    """PSNRs over the frames, as a PNG. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5), dpi=110)
    for name, label, colour in (
        ("psnr_y", "Y", "black"), ("psnr_cb", "Cb", "tab:blue"), ("psnr_cr", "Cr", "tab:red"),
        ("psnr_average", "all samples", "tab:gray"),
    ):  # fmt: skip
        values = [getattr(frame, name) for frame in frames]
        if not all(map(math.isnan, values)):
            axes.plot([frame.frame for frame in frames], values, color=colour, label=label)
    axes.set(xlabel="frame", ylabel="PSNR, dB", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, format="png")
    plt.close(figure)
