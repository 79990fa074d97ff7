"""`hnv encode` for programs: from files, arrays or planes, with the same options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding import encoder
from hnervcodec.encoding.encoder import EncodeResult, Report, silent
from hnervcodec.encoding.file_input import Footage
from hnervcodec.encoding.job_folder import unfinished
from hnervcodec.encoding.memory_input import GivenFrames, RgbFrames
from hnervcodec.encoding.plan import DEFAULT_SEGMENT_FRAMES
from hnervcodec.encoding.rate import Rate
from hnervcodec.errors import UsageError
from hnervcodec.planes import Planes
from hnervcodec.system.atomic_files import open_complete_or_absent
from hnervcodec.system.devices import use_threads

if TYPE_CHECKING:
    from torch import Tensor


def encode(
    source: str | Path | np.ndarray | Tensor | Iterable[Planes],
    output: str | Path | BinaryIO,
    *,
    bpp: float | None = None,
    bitrate: float | None = None,
    size: float | None = None,
    psnr: float | None = None,
    quality: float | None = None,
    denoise: bool = False,
    frame_rate: float | Fraction | None = None,
    video: VideoHeader | None = None,
    preset: str = "medium",
    tune: str = "psnr",
    segment: int = DEFAULT_SEGMENT_FRAMES,
    scenecut: float = 10.0,
    skip: int = 0,
    limit: int | None = None,
    every: int = 1,
    mask: str | Path | None = None,
    audio: str = "copy",
    prune: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    resume: bool = False,
    on_progress: Report = silent,
) -> EncodeResult:
    """Fits networks to a video and writes them as a `.hnv` file.

    source: a path of anything that ffmpeg's libraries open; or frames in RGB, uint8 [T, H, W, 3],
    numpy or torch, with `frame_rate`, which become 4:2:0 in BT.709; or planes of each frame with
    the `video` that describes them (a list is searched for changes of scene, an iterator is not).
    output: a path, replaced when the file is complete; or a binary file, seekable or not.
    bpp, bitrate, size, psnr, quality, denoise: exactly one of these; bits per pixel, bits per
    second, bytes of the whole file, dB, constant quality (see `hnv help rates`).
    skip, limit, every: of a path's frames, how many to leave out at the start, how many to take at
    most, and to take each `every`-th only.
    audio: "copy" the sound and the subtitles of a path, or "none".
    resume: go on with an encode of a path to a path that was interrupted, from its last moments;
    what it left, in OUTPUT.job, is neither lost nor overwritten otherwise.
    on_progress: called with a segment's number and how far its fit is, a `fitting.Progress`.
    The others are those of `hnv encode`. `threads` is torch's setting for the whole process.

    Errors are `HnervError`s: `UsageError` (also a ValueError) for arguments that make no sense.

    >>> result = encode("in.mp4", "out.hnv", bpp=0.05, preset="slow")
    >>> result.bytes, result.error.average                        # dB
    >>> result.notes                             # what of the source was lost or converted
    >>> encode(frames, "out.hnv", frame_rate=25, size=100_000)    # uint8 [T, H, W, 3]
    """
    rate = Rate(bpp, bitrate, size, psnr, quality, denoise or None)
    options: dict[str, Any] = {
        "preset": preset,
        "tune": tune,
        "segment_frames": segment,
        "prune": prune,
        "device": device,
        "seed": seed,
    }
    masked_by = None if mask is None else str(mask)
    footage: Footage | GivenFrames
    if isinstance(source, str | Path):
        if frame_rate is not None or video is not None:
            raise UsageError("a path brings its own frame_rate and video")
        footage = Footage(str(source), skip, limit, every, masked_by, audio == "copy")
    else:
        if skip or limit is not None or every != 1:
            raise UsageError("skip, limit and every are for paths: select the frames yourself")
        footage = _given(source, frame_rate, video, masked_by)
    if threads:
        use_threads(threads)
    facts = {
        **options,
        **asdict(rate),
        **footage.facts(),
        "scenecut": scenecut,
        "threads": torch.get_num_threads(),
    }
    with _opened(source, output, resume, facts) as (file, folder), footage.open() as opened:
        header = opened.header
        rate.check(header)
        scan = footage.scan(segment, scenecut, lambda frames: None)
        extras, notes = footage.extras(header, scan)
        settings = rate.settings(header, scan, extras, **options)
        notes += footage.check_masks(header, scan)
        result = encoder.encode(
            header,
            opened.frames(),
            file,
            settings,
            masks=footage.masks(header),
            extras=extras,
            folder=folder,
            report=on_progress,
        )
        result.notes = tuple(dict.fromkeys([*opened.notes, *notes]))
        return result


def _given(
    source: Any, frame_rate: float | Fraction | None, video: VideoHeader | None, mask: str | None
) -> GivenFrames:
    if isinstance(source, np.ndarray | torch.Tensor):
        if frame_rate is None or video is not None:
            raise UsageError("an array of frames needs a frame_rate, and no video")
        frames = RgbFrames(source, frame_rate)
        return GivenFrames(frames.video, frames, mask)
    if video is None or frame_rate is not None:
        raise UsageError("planes need the video that describes them, and no frame_rate")
    return GivenFrames(video, source, mask)


@contextmanager
def _opened(
    source: Any, output: str | Path | BinaryIO, resume: bool, facts: dict[str, Any]
) -> Iterator[tuple[BinaryIO, Path | None]]:
    """The output and the folder of unfinished work."""
    if not isinstance(output, str | Path):
        if resume:
            raise UsageError("resume works from a path to a path")
        yield output, None
        return
    is_path = isinstance(source, str | Path)
    if is_path and Path(output).exists() and Path(source).exists():
        if Path(output).samefile(source):
            raise UsageError(f"input and output are the same file, {output}")
    elif resume and not is_path:
        raise UsageError("resume works from a path to a path")
    name = str(source) if is_path else "-"
    with (
        unfinished(name, str(output), resume, False, facts) as folder,
        open_complete_or_absent(output, folder) as file,
    ):
        yield file, folder
