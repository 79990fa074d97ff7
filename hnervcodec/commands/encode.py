"""hnv encode"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import hnervcodec
from hnervcodec.commands.files import can_be_reread, check_overwrite, open_output
from hnervcodec.commands.options import (
    FIT_DEVICE,
    OVERWRITE,
    PRESET,
    QUIET,
    SEED,
    THREADS,
    Amount,
    Timestamp,
)
from hnervcodec.commands.progress import EncodeProgress, print_prediction
from hnervcodec.errors import OutputError, SourceError, UsageError

if TYPE_CHECKING:
    from fractions import Fraction

    from hnervcodec.checkpoints import Job
    from hnervcodec.extras import Extras
    from hnervcodec.planes import Planes
    from hnervcodec.ratecontrol import Aim
    from hnervcodec.syntax import VideoHeader


SCENECUT = 10.0  # score of libavfilter's scdet


@dataclass(frozen=True)
class Rate:
    """The choice of a size or a quality: exactly one of these."""

    bpp: float | None
    bitrate: float | None
    size: float | None
    psnr: float | None
    quality: float | None
    denoise: bool | None

    def __post_init__(self) -> None:
        if sum(choice is not None for choice in asdict(self).values()) != 1:
            raise UsageError(
                "choose the rate by exactly one of --bpp, --bitrate and --size, "
                "or the quality by --psnr or --quality, or take --denoise"
            )

    def chosen(
        self, video: VideoHeader, frames: int | None, beside: int = 0
    ) -> tuple[float | None, Aim | None]:
        """(bytes per frame, aim), both None for --denoise, else one of them; `frames`: None where
        nobody knows; `beside`: bytes that are not for them."""
        from hnervcodec.ratecontrol import ConstantPsnr, ConstantQuality

        if self.denoise:
            return None, None
        if self.psnr is not None:
            return None, ConstantPsnr(self.psnr)
        if self.quality is not None:
            return None, ConstantQuality(self.quality)
        if self.bpp is not None:
            return self.bpp * video.width * video.height / 8, None
        if self.bitrate is not None:
            return self.bitrate / 8 / float(video.frame_rate), None
        if self.size is None or frames is None:
            raise UsageError(
                "--size needs a file, as a pipe's length is unknown: use --bpp or --bitrate"
            )
        if beside >= self.size:
            raise UsageError(
                f"sound and the like take {beside:,} bytes of the {self.size:,.0f} asked for: "
                "leave the sound out with --audio none, or ask for more"
            )
        return (self.size - beside) / frames, None


def identity(path: str) -> list[int] | None:
    """Size and time: a file that has changed has others. None for what is no file."""
    if not os.path.isfile(path):
        return None
    facts = os.stat(path)
    return [facts.st_size, facts.st_mtime_ns]


@contextmanager
def unfinished(
    source: str, output: str | None, resume: bool, anew: bool, settings: dict[str, Any]
) -> Iterator[Job | None]:
    """Where the encode of a file to a file keeps its work; removed when it is complete."""
    is_new = output is not None and output != "-" and not os.path.exists(output)
    to_file = is_new or (output is not None and os.path.isfile(output))
    if output is None or not to_file or not os.path.isfile(source):
        if resume:
            raise UsageError("--resume works from a file to a file, not with pipes or --dry-run")
        yield None
        return
    if not Path(output).absolute().parent.is_dir():
        raise OutputError(f"cannot write {output}: no such folder")
    from importlib.metadata import version

    from hnervcodec.checkpoints import Job

    settings |= {"source": identity(source), "hnv": hnervcodec.__version__,
                 "torch": version("torch")}  # fmt: skip
    work = Job.open(output, settings, resume, anew and not resume)
    is_finished = False
    try:
        yield work
        is_finished = True
    except KeyboardInterrupt:
        if not work.is_begun:
            raise
        raise KeyboardInterrupt("the same command with --resume goes on from here") from None
    finally:
        work.close(is_finished)


def between(
    source: str, start: Fraction | None, stop: Fraction | None, every: int
) -> tuple[int, int | None]:
    """How many frames to skip, and to take, for those from `start` to before `stop`."""
    if not can_be_reread(source):
        raise UsageError("--ss and --to need a file, as a pipe is read only once")
    from hnervcodec.video import count_until

    skip = 0 if start is None else count_until(source, start)
    if stop is None:
        return skip, None
    taken = count_until(source, stop) - skip
    if taken < 1:
        raise UsageError("no frame begins between --ss and --to")
    return skip, -(-taken // every)


def scanned(
    source: str, segment: int, scenecut: float, audio: str = "none", **selection: Any
) -> tuple[list[int] | None, Extras | None, list[str]]:
    """The lengths of a file's segments, what goes beside them, and notes; nobody looks ahead into
    a pipe."""
    if not can_be_reread(source):
        is_y4m = source == "-"  # which has nothing of the kind
        lost = [] if is_y4m else ["sound, timestamps and rotation of a pipe are not kept"]
        return None, None, lost
    from hnervcodec.extras import Extras
    from hnervcodec.packets import read_streams
    from hnervcodec.scenes import scan
    from hnervcodec.video import VideoSource

    with VideoSource(source, **selection) as video:
        lengths = scan(video.header, video.frames(), segment, scenecut)
        if not lengths:
            raise SourceError("the source holds no frames in the selected range")
        times, window = video.times(), video.window()
    streams, packets, notes = ([], [], []) if audio == "none" else read_streams(source, *window)
    extras = Extras(sum(lengths), video.header.frame_rate, video.display, times, streams, packets)
    return lengths, extras, [*video.notes, *notes]


def checked_masks(
    mask: str | None, video: VideoHeader, frames: int | None, **selection: Any
) -> Iterator[Planes] | None:
    """The masks; that there are enough of them is found out now and not after hours."""
    if mask is None:
        return None
    from hnervcodec.masks import read_masks

    if not can_be_reread(mask):
        raise UsageError("MASK is read twice and cannot be a pipe")
    for _ in islice(read_masks(mask, video, **selection), frames or 1):
        pass
    return read_masks(mask, video, **selection)


def use_threads(threads: int | None) -> None:
    if threads:
        from hnervcodec.kernels import use_threads

        use_threads(threads)


@click.command()
@click.argument("source", metavar="IN")
@click.option("-o", "--output", metavar="OUT", help="The .hnv file; - for a pipe.")
@click.option("--bpp", type=click.FloatRange(0, min_open=True), help="Bits per pixel of the file.")
@click.option("--bitrate", type=Amount(), help="Bits per second: 500k, 1.5M.")
@click.option("--size", type=Amount(), help="Bytes of the whole file: 300k, 1M.")
@click.option(
    "--psnr",
    type=click.FloatRange(10, 60),
    help="Instead of a size: this PSNR in dB over all samples, within a few tenths.",
)
@click.option(
    "--quality",
    type=click.FloatRange(10, 60),
    help="Instead of a size: constant quality, about 25 (poor) to 40; 6 more: twice the bytes.",
)
@click.option(
    "--denoise",
    is_flag=True,
    help="Instead of a size: as many bytes as best tell the video from its noise (several fits).",
)
@PRESET
@click.option(
    "--tune",
    type=click.Choice(("psnr", "ssim")),
    default="psnr",
    show_default=True,
    help="What to be good at: squared error, or the structure that MS-SSIM compares.",
)
@click.option(
    "--segment",
    type=click.IntRange(1, 2048),
    default=256,
    show_default=True,
    help="Frames per network, about; each segment decodes on its own.",
)
@click.option(
    "--scenecut",
    type=click.FloatRange(0, 100),
    default=SCENECUT,
    show_default=True,
    help="A change of scene of at least this score begins a segment where that leaves none "
    "shorter than half of --segment; 0: none does.",
)
@click.option("--ss", "start", type=Timestamp(), help="Where to begin: seconds, or HH:MM:SS.mmm.")
@click.option("--to", "stop", type=Timestamp(), help="Where to end, in the same time.")
@click.option("--skip", type=click.IntRange(0), default=0, help="Frames to leave out at the start.")
@click.option("--limit", type=click.IntRange(1), help="Frames to encode at most.")
@click.option(
    "--every",
    type=click.IntRange(1, 100),
    default=1,
    help="Code each N-th frame only: hnv decode --fps makes the others.",
    metavar="N",
)
@click.option(
    "--audio",
    type=click.Choice(("copy", "none")),
    default="copy",
    show_default=True,
    help="Sound and subtitles: carried as they are, or left out.",
)
@click.option(
    "--mask",
    metavar="MASK",
    help="What is not to be resembled: a picture or a video, white where masked, or boxes in JSON.",
)
@click.option(
    "--prune",
    type=click.FloatRange(0, 0.9),
    default=0.0,
    help="Share of the weights to set to zero, the rest retrained (0.1: the paper's).",
)
@SEED
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an encode that was interrupted, where it was (-y discards it instead).",
)
@FIT_DEVICE
@THREADS
@click.option("--dry-run", is_flag=True, help="Only say what would be fitted, and how long.")
@OVERWRITE
@QUIET
def encode(
    source: str, output: str | None, bpp: float | None, bitrate: float | None, size: float | None,
    psnr: float | None, quality: float | None, denoise: bool, preset: str, tune: str, segment: int,
    scenecut: float, start: Fraction | None, stop: Fraction | None, skip: int, limit: int | None,
    every: int, audio: str, mask: str | None, prune: float, seed: int, resume: bool, device: str,
    threads: int | None, dry_run: bool, yes: bool, no: bool, quiet: bool,
) -> None:  # fmt: skip
    """Fit a network to the video IN and write it to OUT.

    IN is anything ffmpeg's libraries open, or - for Y4M on standard input. Choose the size of
    the result by one of --bpp, --bitrate and --size: the file comes out just below it. Or choose
    its quality by --psnr or --quality: a few short trial fits find out what that takes.

    With --denoise the fits hide some samples from themselves, and the size is the one at which
    they predict these best: what cannot be predicted is noise. PSNRs are to the noisy source.

    With --mask the network need not resemble what is masked, and fills it from what the rest of
    the frame and the other frames show; hnv inpaint puts that into the source. A video of masks
    has a frame for each of the source's. In JSON, boxes are a list of {"x": 0, "y": 0, "width": 50,
    "height": 50, "first": 0, "last": 9}: luma samples, and source frames, which may be left out.

    \b
    hnv encode in.mp4 -o out.hnv --bpp 0.05 --preset slow
    hnv encode in.mp4 -o out.hnv --size 1M --preset fast
    hnv encode in.mp4 -o out.hnv --psnr 36
    hnv encode in.mp4 --bpp 0.05 --dry-run        how long that would take
    ffmpeg -i in.mov -f yuv4mpegpipe - | hnv encode - -o out.hnv --bitrate 500k
    """
    rate = Rate(bpp, bitrate, size, psnr, quality, denoise or None)
    if output is None and not dry_run:
        raise UsageError("-o OUT is missing: where the .hnv file is to go, or - for a pipe")
    options: dict[str, Any] = {
        "denoise": denoise, "preset": preset, "tune": tune, "segment_frames": segment,
        "prune": prune, "device": device,
    }  # fmt: skip
    if start is not None or stop is not None:
        if skip or limit:
            raise UsageError("choose the part either by --ss and --to, or by --skip and --limit")
        skip, limit = between(source, start, stop, every)
    selection: dict[str, Any] = {"skip": skip, "limit": limit, "every": every}
    from hnervcodec.synthesis import processors

    settings = {
        **options, **asdict(rate), **selection, "audio": audio, "scenecut": scenecut, "seed": seed,
        "threads": threads or processors(), "mask": identity(mask) if mask else None,
    }  # fmt: skip
    target = None if dry_run else output
    if target is not None:
        check_overwrite(source, target, yes, no)
    with (  # the work is kept until the output has its name
        unfinished(source, target, resume, yes, settings) as work,
        open_output(target) as file,
    ):
        from hnervcodec import encoder
        from hnervcodec.video import VideoSource

        use_threads(threads)
        with VideoSource(source, **selection) as video:
            header = video.header
            lengths, extras, notes = scanned(source, segment, scenecut, audio, **selection)
            expected = sum(lengths) if lengths else None
            beside = extras.size(lengths) if lengths and extras else 0
            bytes_per_frame, aim = rate.chosen(header, expected, beside)
            if bytes_per_frame is not None:
                encoder.check_rate(header, bytes_per_frame)
            progress = EncodeProgress(header, preset, lengths, quiet)
            for note in [] if quiet else dict.fromkeys([*video.notes, *notes]):
                click.echo(f"note: {note}", err=True)
            options |= {
                "bytes_per_frame": bytes_per_frame, "aim": aim, "lengths": lengths,
                "masks": checked_masks(mask, header, expected, skip=skip, every=every),
                "report": progress,
            }  # fmt: skip
            if file is None:
                prediction = encoder.predict(header, video.frames(), **options)
                print_prediction(prediction, bytes_per_frame is None)
                return
            options["extras"] = extras
            result = encoder.encode(header, video.frames(), file, seed=seed, work=work, **options)
    assert output is not None
    progress.done(output, result)
    if every > 1 and not quiet and result.frames > 1 and work is not None:
        with VideoSource(source, skip=skip, limit=(result.frames - 1) * every + 1) as video:
            made = encoder.error_between(output, every, video.frames())
        click.echo(f"made frames: PSNR {made.average:.2f} dB", err=True)
    if psnr is not None and result.error.average < psnr - 0.3 and not quiet:
        click.echo(
            f"note: {psnr:g} dB is out of reach of preset {preset} here; a slower one comes nearer",
            err=True,
        )
