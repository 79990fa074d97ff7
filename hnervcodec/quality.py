"""How much a video differs from its source, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from statistics import fmean

import numpy as np
import torch

from hnervcodec.libav import FrameComparison
from hnervcodec.losses import ms_ssim
from hnervcodec.metrics import PlaneError
from hnervcodec.planes import Planes
from hnervcodec.plots import picture
from hnervcodec.syntax import VideoHeader


@dataclass(frozen=True, slots=True)
class Quality:
    """PSNRs in dB and SSIMs as ffmpeg's filters define them; nan for planes that there are not."""

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


class Comparison:
    """Measures pairs of frames and, once there are some, the whole; `video` describes both sides.

    frames: what was found, a `Quality` for each pair.
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
        luma = (
            torch.from_numpy(planes[0].astype(np.float32) / self._video.max_sample)[None, None]
            for planes in (reference, distorted)
        )
        found = self._ssim(reference, distorted)
        y, cb, cr, together = (found.get(plane, math.nan) for plane in ("Y", "U", "V", "All"))
        self.frames.append(Quality(*_psnrs(error), y, cb, cr, together, float(ms_ssim(*luma))))

    @property
    def whole(self) -> Quality:
        """PSNRs of the mean squared errors over all frames, as ffmpeg sums them up; the others are
        means over the frames."""
        means = {f.name: fmean(getattr(q, f.name) for q in self.frames) for f in fields(Quality)}
        names = [name for name in means if name.startswith("psnr")]
        return Quality(**means | dict(zip(names, _psnrs(self._error), strict=True)))


def _psnrs(error: PlaneError) -> tuple[float, float, float, float, float]:
    y, cb, cr = (*error.per_plane, math.nan, math.nan)[:3]
    return y, cb, cr, error.average, error.weighted


def plot(path: str, frames: list[Quality], title: str) -> None:
    """PSNRs over the frames, as a PNG. Needs matplotlib."""
    with picture(path, (9, 4.5)) as axes:
        for name, label, colour in (
            ("psnr_y", "Y", "black"), ("psnr_cb", "Cb", "tab:blue"), ("psnr_cr", "Cr", "tab:red"),
            ("psnr_average", "all samples", "tab:gray"),
        ):  # fmt: skip
            values = [getattr(frame, name) for frame in frames]
            if not all(map(math.isnan, values)):
                axes.plot(range(len(frames)), values, color=colour, label=label)
        axes.set(xlabel="frame", ylabel="PSNR, dB", title=title)
