"""A fit's first steps, at a fraction of the size: the frames smaller by the network's last
upsampling, the network without it. They take a fraction of the time, and what the layers learn
there the others need not learn (tools/results/rate_distortion.md)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hnervcodec.fitting.training import FitTask
from hnervcodec.planes import pack, unpack


def coarser(task: FitTask) -> FitTask:
    """The task at that size; one whose schedule has coarse steps."""
    *stages, last = task.model.stages
    video, factor = task.video, last.stride

    def smaller(frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[2] // factor, frames.shape[3] // factor
        made = []
        for frame in frames:
            planes = unpack(frame, video.chroma_format, 2 * frame.shape[2], 2 * frame.shape[1])
            means = tuple(_means(plane, factor) for plane in planes)
            made.append(pack(means, video.chroma_format, height, width))
        return np.stack(made)

    hidden = task.hidden  # a cell that hides anything is hidden
    return replace(
        task,
        frames=smaller(task.frames),
        hidden=None if hidden is None else smaller(hidden * np.uint8(255)) > 0,
        video=replace(video, width=-(-video.width // factor), height=-(-video.height // factor)),
        model=replace(task.model, stages=tuple(stages)),
        config=replace(task.config, coarse=0.0),
    )


def _means(plane: np.ndarray, factor: int) -> np.ndarray:
    """Rounded means of the cells of `factor` x `factor` samples."""
    sums = np.zeros([side // factor for side in plane.shape], np.uint32)
    for y in range(factor):
        for x in range(factor):
            sums += plane[y::factor, x::factor]
    return ((sums + factor**2 // 2) // factor**2).astype(plane.dtype)
