"""Encoding for programs: `hnv encode` and `hnv inpaint` from files, arrays or planes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import torch

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding import defaults, inpainting, session
from hnervcodec.encoding.dispatch import Dispatch
from hnervcodec.encoding.encoder import EncodeResult
from hnervcodec.encoding.file_input import FileInput, Selection
from hnervcodec.encoding.manifest import EncodedVideo
from hnervcodec.encoding.many import ManyEncode
from hnervcodec.encoding.memory_input import MemoryInput, RgbFrames
from hnervcodec.encoding.observer import ManyObserver, Observer
from hnervcodec.encoding.rate import Rate
from hnervcodec.encoding.session import EncodeOptions
from hnervcodec.errors import UsageError
from hnervcodec.fitting.presets import Preset
from hnervcodec.fitting.progress import Progress
from hnervcodec.media import outputs, sinks
from hnervcodec.media.output_formats import FORMATS, format_of
from hnervcodec.media.presentation import Presentation
from hnervcodec.planes import Planes
from hnervcodec.system import numbers

if TYPE_CHECKING:
    from torch import Tensor

Report = Callable[[int, Progress], None]  # a segment's number, from 0, and how far its fit is


class _Reporting(Observer):
    """Passes progress on to a function."""

    def __init__(self, report: Report | None):
        self._report = report

    def progressed(self, number: int, progress: Progress) -> None:
        if self._report:
            self._report(number, progress)


class _ReportingMany(ManyObserver):
    def __init__(self, report: Callable[[int, float], None] | None):
        self._report = report

    def progressed(self, number: int, share: float) -> None:
        if self._report:
            self._report(number, share)


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
    preset: str | Preset = "medium",
    tune: Literal["balanced", "psnr", "ssim"] = "balanced",
    segment: int | None = None,
    scenecut: float = defaults.SCENECUT,
    start: float | Fraction | None = None,
    stop: float | Fraction | None = None,
    skip: int = 0,
    limit: int | None = None,
    every: int = 1,
    mask: str | Path | None = None,
    audio: Literal["copy", "none"] = "copy",
    stream: int | None = None,
    strict: bool = False,
    prune: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    share: tuple[int, int] | None = None,
    resume: bool = False,
    discard: bool = False,
    on_progress: Report | None = None,
) -> EncodeResult:
    """Fits networks to a video and writes them as a `.hnv` file.

    source: a path of anything that ffmpeg's libraries open; or frames in RGB, uint8 [T, H, W, 3],
    numpy or torch, with `frame_rate`, which become 4:2:0 in BT.709; or planes of each frame with
    the `video` that describes them (a list is searched for changes of scene, an iterator is not).
    output: a path, replaced when the file is complete; or a binary file, seekable or not.
    bpp, bitrate, size, psnr, quality, denoise: exactly one of these; bits per pixel, bits per
    second, bytes of the whole file, dB, constant quality (see `hnv help rates`).
    segment: frames of each network, about; None: what suits each scene.
    skip, limit, every: of a path's frames, how many to leave out at the start, how many to take at
    most, and to take each `every`-th only.
    start, stop: instead, the seconds of a path at which to begin and to end.
    audio: "copy" the sound and the subtitles of a path, or "none".
    stream: the number of a path's video stream; default: the one that ffmpeg would choose.
    strict: refuse a path whose video is damaged, where damaged packets are skipped otherwise.
    resume: go on with an encode of a path to a path that was interrupted, from its last moments;
    what it left, in OUTPUT.job, is neither lost nor overwritten otherwise, but with `discard`.
    workers, cluster: fit so many segments of a path at a time, in processes of their own, or on
    the Dask cluster at that address. share: (i, n), only the i-th of n shares of the segments.
    on_progress: called with a segment's number and how far its fit is, a `Progress`.
    threads: that torch computes each fit with; default: as many as it is set to. Its setting is as
    before afterwards.
    The others are those of `hnv encode`.

    Numbers may be Python's, numpy's or torch's. Errors are `HnervError`s: `UsageError` (also a
    ValueError) for arguments that make no sense.

    >>> result = encode("in.mp4", "out.hnv", bpp=0.05, preset="slow")
    >>> result.bytes, result.error.average                        # dB
    >>> result.notes                             # what of the source was lost or converted
    >>> encode(frames, "out.hnv", frame_rate=25, size=100_000)    # uint8 [T, H, W, 3]
    """
    options = EncodeOptions(
        rate=Rate(
            bpp=bpp,
            bitrate=bitrate,
            size=size,
            psnr=psnr,
            quality=quality,
            denoise=bool(denoise) or None,
        ),
        preset=preset,
        tune=tune,
        segment=segment,
        scenecut=scenecut,
        prune=prune,
        seed=seed,
        device=device,
        dispatch=_dispatch(workers, cluster, threads, share),
    )
    selection = _selection(start, stop, skip, limit, every, mask, audio, stream, strict)
    encode_input: session.Source
    if isinstance(source, str | Path):
        if frame_rate is not None or video is not None:
            raise UsageError("a path brings its own frame_rate and video")
        encode_input = selection.of(str(source))
    else:
        if skip or limit is not None or every != 1 or start is not None or stop is not None:
            raise UsageError(
                "skip, limit, every, start and stop are for paths: select the frames yourself"
            )
        if stream is not None or strict:
            raise UsageError("stream and strict are for paths")
        encode_input = _in_memory(source, frame_rate, video, selection.of_each.mask)
    return session.encode(
        encode_input,
        output,
        options,
        resume=resume,
        discard=discard,
        observer=_Reporting(on_progress),
    )


def encode_many(
    sources: str | Path | Iterable[str | Path],
    folder: str | Path,
    *,
    bpp: float | None = None,
    bitrate: float | None = None,
    size: float | None = None,
    psnr: float | None = None,
    quality: float | None = None,
    denoise: bool = False,
    preset: str | Preset = "medium",
    tune: Literal["balanced", "psnr", "ssim"] = "balanced",
    segment: int | None = None,
    scenecut: float = defaults.SCENECUT,
    start: float | Fraction | None = None,
    stop: float | Fraction | None = None,
    skip: int = 0,
    limit: int | None = None,
    every: int = 1,
    mask: str | Path | None = None,
    audio: Literal["copy", "none"] = "copy",
    stream: int | None = None,
    strict: bool = False,
    prune: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    resume: bool = False,
    discard: bool = False,
    on_progress: Callable[[int, float], None] | None = None,
) -> list[EncodedVideo]:
    """Encodes many videos, each into a `.hnv` file in `folder`, and keeps a manifest of them there.

    sources: paths of videos, of folders, whose videos are taken with those of the folders below,
    and patterns such as "clips/*.mp4"; or one of these.
    folder: made if it is missing. a.mp4 becomes a.hnv, in the folders that the sources do not all
    have in common. `folder`/manifest.jsonl has a line of JSON for each finished video: its name,
    source, frames, bytes, psnr (dB, over all samples) and sha256.
    size: bytes of each file. workers: so many processes, each of which fits a video at a time.
    resume: go on with what was interrupted; discard: make all files anew. What the manifest knows
    as finished, of a source and options that have not changed, is not done again otherwise.
    on_progress: called with a video's number, from 0, and the share, 0..1, of its fits that is
    behind us.
    The others are those of `encode`.

    Returns what became of each video, in order. One that cannot be encoded does not stop the
    others: its `error` says why. Errors that concern all are `HnervError`s, as `encode` has them.

    >>> made = encode_many("clips/", "out/", quality=38, workers=4)
    >>> [video.error for video in made if video.error]
    """
    options = EncodeOptions(
        rate=Rate(
            bpp=bpp,
            bitrate=bitrate,
            size=size,
            psnr=psnr,
            quality=quality,
            denoise=bool(denoise) or None,
        ),
        preset=preset,
        tune=tune,
        segment=segment,
        scenecut=scenecut,
        prune=prune,
        seed=seed,
        device=device,
        dispatch=_dispatch(workers, cluster, threads, None),
    )
    selection = _selection(start, stop, skip, limit, every, mask, audio, stream, strict)
    paths = [sources] if isinstance(sources, str | Path) else sources
    job = ManyEncode(
        [str(path) for path in paths], folder, options, selection, _ReportingMany(on_progress)
    )
    return job.run(resume=resume, discard=discard)


def _dispatch(
    workers: int | None,
    cluster: str | None,
    threads: int | None,
    share: tuple[int, int] | None,
) -> Dispatch:
    """Fits in this process have the threads that torch is set to."""
    if not threads and not (workers or cluster):
        threads = torch.get_num_threads()
    return Dispatch(workers=workers, cluster=cluster, threads=threads, share=share)


def _selection(
    start: float | Fraction | None,
    stop: float | Fraction | None,
    skip: int,
    limit: int | None,
    every: int,
    mask: str | Path | None,
    audio: Literal["copy", "none"],
    stream: int | None,
    strict: bool,
) -> Selection:
    """What to take of every source."""
    if audio not in ("copy", "none"):
        raise UsageError(f"unknown audio {audio!r}: choose from copy, none")
    if (start is not None or stop is not None) and (skip or limit is not None):
        raise UsageError("choose the part either by start and stop, or by skip and limit")
    of_each = FileInput(
        "",
        numbers.whole("skip", skip),
        None if limit is None else numbers.whole("limit", limit),
        numbers.whole("every", every),
        None if mask is None else str(mask),
        audio == "copy",
        stream=stream,
        strict=strict,
    )
    return Selection(of_each, _seconds("start", start), _seconds("stop", stop))


def _seconds(name: str, at: float | Fraction | None) -> Fraction | None:
    return None if at is None else numbers.exact(name, at)


def _in_memory(
    source: Any, frame_rate: float | Fraction | None, video: VideoHeader | None, mask: str | None
) -> MemoryInput:
    if isinstance(source, np.ndarray | torch.Tensor):
        if frame_rate is None or video is not None:
            raise UsageError("an array of frames needs a frame_rate, and no video")
        frames = RgbFrames(source, frame_rate)
        return MemoryInput(frames.video, frames, mask)
    if video is None or frame_rate is not None:
        raise UsageError("planes need the video that describes them, and no frame_rate")
    return MemoryInput(video, source, mask)


def inpaint(
    source: str | Path,
    output: str | Path,
    *,
    mask: str | Path,
    format: str | None = None,
    bpp: float = 0.1,
    preset: str | Preset = "medium",
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    resume: bool = False,
    discard: bool = False,
    on_progress: Report | None = None,
) -> EncodeResult:
    """Writes a video with what a mask covers replaced by what a network makes of the rest.

    source: a path of anything that ffmpeg's libraries open. mask: a picture of its size for all
    frames, a video with a frame for each of the source's, white where masked, or boxes in JSON
    (see `hnv help masks`).
    output: a path, replaced when it is complete; its name's ending chooses the format (.y4m .mp4
    .mkv ..., lossless: .mkv), or `format` does. Samples that are not masked stay the source's.
    bpp: bits per pixel that the network may take. The others are as in `encode`; `discard` also
    gives up unfinished work.

    Returns what the fit made; its PSNRs are of the samples that are not masked. Errors are
    `HnervError`s.

    >>> inpaint("in.mp4", "out.mkv", mask="logo.png")
    """
    name = format or format_of(str(output))
    videos = [name for name in FORMATS if name != "png"]
    if name not in videos:
        known = ", ".join(videos)
        raise UsageError(f"{name!r} is not a `format` to inpaint into: choose from {known}")
    options = EncodeOptions(
        rate=Rate(bpp=bpp),
        preset=preset,
        seed=seed,
        device=device,
        dispatch=Dispatch(threads=threads or torch.get_num_threads()),
    )
    encode_input = FileInput(str(source), mask=str(mask))

    def open_sink(header: VideoHeader, shown: Presentation) -> AbstractContextManager[sinks.Sink]:
        return outputs.open_file_sink(str(output), name, header, shown)

    with session.open_job_folder(
        encode_input, output, options, resume=resume, discard=discard, kind="inpainted"
    ) as folder:
        return inpainting.inpaint(
            encode_input, options, open_sink, folder=folder, observer=_Reporting(on_progress)
        )
