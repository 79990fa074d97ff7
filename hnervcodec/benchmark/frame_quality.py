"""How much a video differs from its source, frame by frame."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from statistics import fmean

import numpy as np
import torch

from hnervcodec.benchmark.plots import picture
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.fitting import ms_ssim_kernel
from hnervcodec.media.filters import FrameComparison
from hnervcodec.metrics.ms_ssim import WINDOW
from hnervcodec.metrics.psnr import PlaneError
from hnervcodec.planes import Planes


@dataclass(frozen=True, slots=True)
class Quality:
    """How much one frame, or a whole video, differs from its source: PSNRs in dB and SSIMs of 0..1,
    as ffmpeg's filters define them; nan for planes that the format lacks. In RGB, Y, Cb and Cr
    stand for G, B and R, and measures of luma are nan (see `by_plane`)."""

    psnr_y: float
    psnr_cb: float
    psnr_cr: float
    psnr_average: float  # over all samples
    psnr_611: float  # (6 Y + Cb + Cr) / 8
    ssim_y: float
    ssim_cb: float
    ssim_cr: float
    ssim_all: float  # over all samples
    ms_ssim: float  # of luma; nan for frames smaller than its window


class Comparison:
    """Compares pairs of frames, one after the other, and then the whole; `video` describes both
    sides.

    frames: a `Quality` for each pair that was added.
    """

    def __init__(self, video: VideoHeader):
        self._video, self._ssim = video, FrameComparison(video)
        self._error = PlaneError(video.max_sample)
        self.frames: list[Quality] = []

    def add(self, reference: Planes, distorted: Planes) -> None:
        """Another pair of frames."""
        error = PlaneError(self._video.max_sample)
        error.add(reference, distorted)
        self._error.merge(error)
        found = self._ssim(reference, distorted)
        y, cb, cr, together = (found.get(plane, math.nan) for plane in ("Y", "U", "V", "All"))
        of_luma = math.nan if self._video.is_rgb else self._ms_ssim(reference[0], distorted[0])
        self.frames.append(Quality(*self._psnrs(error), y, cb, cr, together, of_luma))

    def _ms_ssim(self, *planes: np.ndarray) -> float:
        if min(planes[0].shape) < WINDOW:
            return math.nan
        samples = (plane.astype(np.float32) / self._video.max_sample for plane in planes)
        return float(
            ms_ssim_kernel.ms_ssim(*(torch.from_numpy(plane)[None, None] for plane in samples))
        )

    def _psnrs(self, error: PlaneError) -> tuple[float, float, float, float, float]:
        y, cb, cr = (*error.per_plane, math.nan, math.nan)[:3]
        return y, cb, cr, error.average, math.nan if self._video.is_rgb else error.weighted

    @property
    def whole(self) -> Quality:
        """PSNRs of the mean squared errors over all frames, as ffmpeg sums them up; the others are
        means over the frames."""
        means = {f.name: fmean(getattr(q, f.name) for q in self.frames) for f in fields(Quality)}
        names = [name for name in means if name.startswith("psnr")]
        return Quality(**means | dict(zip(names, self._psnrs(self._error), strict=True)))


def by_plane(quality: Quality, video: VideoHeader) -> dict[str, float]:
    """The values by names that fit the planes of `video`: for RGB psnr_g instead of psnr_y and so
    on, without the measures of luma."""
    values = asdict(quality)
    if not video.is_rgb:
        return values
    planes = {"y": "g", "cb": "b", "cr": "r"}
    kinds = (name.split("_") for name in values if name not in ("psnr_611", "ms_ssim"))
    return {
        f"{kind}_{planes.get(plane, plane)}": values[f"{kind}_{plane}"] for kind, plane in kinds
    }


def plot(path: str, frames: list[Quality], video: VideoHeader, title: str) -> None:
    """PSNRs over the frames, as a PNG. Needs matplotlib."""
    labels = ("all samples", *video.plane_names)
    colours = ("tab:gray", "green" if video.is_rgb else "black", "tab:blue", "tab:red")
    with picture(path, (9, 4.5), title) as axes:
        names = ("psnr_average", "psnr_y", "psnr_cb", "psnr_cr")
        for name, label, colour in zip(names, labels, colours, strict=False):
            values = [getattr(frame, name) for frame in frames]
            axes.plot(range(len(frames)), values, color=colour, label=label)
        axes.set(xlabel="frame", ylabel="PSNR, dB")
