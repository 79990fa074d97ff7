"""The `hnv` command: the only place that prints. Errors become one line and an exit code.

Heavy modules are imported inside the commands that need them: `hnv info` never loads torch.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

import click

import hnervcodec
from hnervcodec.container import MAJOR, MINOR, SIGNATURE, Reader
from hnervcodec.errors import (
    FileError,
    HnervError,
    LimitError,
    OutputError,
    SourceError,
    UnsupportedError,
    UsageError,
)
from hnervcodec.planes import CHROMA_NAMES
from hnervcodec.profiles import LEVELS

if TYPE_CHECKING:
    from hnervcodec.checkpoints import Job
    from hnervcodec.decoder import Decoder
    from hnervcodec.encoder import EncodeResult, Prediction
    from hnervcodec.fitting import Progress
    from hnervcodec.planes import Planes
    from hnervcodec.ratecontrol import Aim
    from hnervcodec.syntax import VideoHeader

SCENECUT = 10.0  # score of libavfilter's scdet
PRESET_NAMES = ("ultrafast", "faster", "fast", "medium", "slow", "veryslow")
OUTPUT_FORMATS = ("y4m", "raw", "framemd5", "png", "mp4", "mkv")


def main() -> NoReturn:
    """Entry point of `hnv`: runs a command and maps every failure to an exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = cli.main(prog_name="hnv", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except (KeyboardInterrupt, click.Abort) as error:
        _fail(f"interrupted{_hint(error)}", 130)
    except (_ClosedPipe, BrokenPipeError):
        # The reader has seen enough. Nothing more may be flushed into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except HnervError as error:
        _fail(str(error), error.exit_code)
    except (MemoryError, RuntimeError) as error:
        # torch reports a failed allocation as a RuntimeError.
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        _fail("not enough memory", 1)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _fail(f"{name}{error.strerror or error}", OutputError.exit_code)


def _hint(error: BaseException) -> str:
    """What was said when the interrupt was passed on; click wraps it."""
    cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__
    return f": {cause}" if str(cause or "") else ""


class _ClosedPipe(Exception):
    """Carries BrokenPipeError past click, which would turn it into exit code 1."""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ClosedPipe from error


def _fail(message: str, code: int) -> NoReturn:
    line = "\r\x1b[K" if sys.stderr.isatty() else ""  # clears what progress left there
    click.echo(f"{line}hnv: {message}", err=True)
    sys.exit(code)


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import version

    from hnervcodec.synthesis import fastest_path
    from hnervcodec.video import library_versions

    click.echo(
        f"hnv {hnervcodec.__version__}, format {MAJOR}.{MINOR}, torch {version('torch')}, "
        f"{library_versions()}, constriction {version('constriction')}, "
        f"arithmetic {fastest_path()}"
    )
    context.exit()


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Versions of the program, the format and the libraries, and the arithmetic in use.",
)  # fmt: skip
def cli() -> None:
    """A neural video codec: one small network per video, any frame in one forward pass.

    \b
    hnv encode in.mp4 -o out.hnv --bpp 0.05       minutes to hours, by --preset
    hnv decode out.hnv -o - | ffmpeg -i - out.mp4
    hnv decode out.hnv --frames 10-20 -o frames/%05d.png
    hnv info out.hnv                              where every byte went
    hnv verify out.hnv                            checksums of the file and of every frame

    Exit codes: 0 success, 2 wrong usage, 3 damaged file, 4 needs a newer version, 5 beyond a
    limit, 6 cannot read, 7 cannot write, 130 interrupted, 141 closed pipe, 143 terminated.
    """


# ---------------------------------------------------------------- encode


@dataclass(frozen=True)
class _Rate:
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

    def chosen(self, video: VideoHeader, frames: int | None) -> tuple[float | None, Aim | None]:
        """(bytes per frame, aim), both None for --denoise, else one of them; `frames`: None where
        nobody knows."""
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
        return self.size / frames, None


def _identity(path: str) -> list[int] | None:
    """Size and time: a file that has changed has others. None for what is no file."""
    if not os.path.isfile(path):
        return None
    facts = os.stat(path)
    return [facts.st_size, facts.st_mtime_ns]


def _can_be_reread(source: str) -> bool:
    """Whether it is not a pipe: a file, or a pattern or an address that libav knows."""
    return source != "-" and (os.path.isfile(source) or not os.path.exists(source))


@contextmanager
def _unfinished(
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

    settings |= {"source": _identity(source), "hnv": hnervcodec.__version__,
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


def _scanned(source: str, segment: int, scenecut: float, **selection: Any) -> list[int] | None:
    """The lengths of a file's segments; nobody looks ahead into a pipe."""
    if not _can_be_reread(source):
        return None
    from hnervcodec.scenes import scan
    from hnervcodec.video import VideoSource

    with VideoSource(source, **selection) as video:
        lengths = scan(video.header, video.frames(), segment, scenecut)
    if not lengths:
        raise SourceError("the source holds no frames in the selected range")
    return lengths


def _checked_masks(
    mask: str | None, video: VideoHeader, frames: int | None, **selection: Any
) -> Iterator[Planes] | None:
    """The masks; that there are enough of them is found out now and not after hours."""
    if mask is None:
        return None
    from hnervcodec.masks import read_masks

    if not _can_be_reread(mask):
        raise UsageError("MASK is read twice and cannot be a pipe")
    for _ in islice(read_masks(mask, video, **selection), frames or 1):
        pass
    return read_masks(mask, video, **selection)


def _use_threads(threads: int | None) -> None:
    if threads:
        from hnervcodec.kernels import use_threads

        use_threads(threads)


class _Amount(click.ParamType[float]):
    """A positive number with an optional k, M or G (powers of 1000)."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+)([kKMG]?)", str(value))
        if not match or float(match[1]) == 0:
            self.fail(f"{value!r} is not a positive number such as 500k or 1.5M", param, ctx)
        factor = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}[match[2].lower()]
        return float(match[1]) * factor


@cli.command()
@click.argument("source", metavar="IN")
@click.option("-o", "--output", metavar="OUT", help="The .hnv file; - for a pipe.")
@click.option("--bpp", type=click.FloatRange(0, min_open=True), help="Bits per pixel of the file.")
@click.option("--bitrate", type=_Amount(), help="Bits per second: 500k, 1.5M.")
@click.option("--size", type=_Amount(), help="Bytes of the whole file: 300k, 1M.")
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
@click.option(
    "--preset",
    type=click.Choice(PRESET_NAMES),
    default="medium",
    show_default=True,
    help="Slower presets fit longer and look better at the same size.",
)
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
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 63) - 1),
    default=0,
    help="Same seed, machine and threads: same file.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an encode that was interrupted, where it was (-y discards it instead).",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: all cores).")
@click.option("--dry-run", is_flag=True, help="Only say what would be fitted, and how long.")
@click.option("-y", "--yes", is_flag=True, help="Overwrite OUT without asking.")
@click.option("-n", "--no", is_flag=True, help="Never overwrite OUT.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def encode(
    source: str, output: str | None, bpp: float | None, bitrate: float | None, size: float | None,
    psnr: float | None, quality: float | None, denoise: bool, preset: str, tune: str, segment: int,
    scenecut: float, skip: int, limit: int | None, every: int, mask: str | None, prune: float,
    seed: int, resume: bool, device: str, threads: int | None, dry_run: bool, yes: bool, no: bool,
    quiet: bool,
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
    rate = _Rate(bpp, bitrate, size, psnr, quality, denoise or None)
    if output is None and not dry_run:
        raise UsageError("-o OUT is missing: where the .hnv file is to go, or - for a pipe")
    options: dict[str, Any] = {
        "denoise": denoise, "preset": preset, "tune": tune, "segment_frames": segment,
        "prune": prune, "device": device,
    }  # fmt: skip
    selection: dict[str, Any] = {"skip": skip, "limit": limit, "every": every}
    from hnervcodec.synthesis import processors

    settings = {
        **options, **asdict(rate), **selection, "scenecut": scenecut, "seed": seed,
        "threads": threads or processors(), "mask": _identity(mask) if mask else None,
    }  # fmt: skip
    target = None if dry_run else output
    if target is not None:
        _check_overwrite(source, target, yes, no)
    with (  # the work is kept until the output has its name
        _unfinished(source, target, resume, yes, settings) as work,
        _open_output(target) as file,
    ):
        from hnervcodec import encoder
        from hnervcodec.video import VideoSource

        _use_threads(threads)
        with VideoSource(source, **selection) as video:
            header = video.header
            lengths = _scanned(source, segment, scenecut, **selection)
            expected = sum(lengths) if lengths else None
            bytes_per_frame, aim = rate.chosen(header, expected)
            if bytes_per_frame is not None:
                encoder.check_rate(header, bytes_per_frame)
            progress = _EncodeProgress(header, preset, lengths, quiet)
            for note in [] if quiet else video.notes:
                click.echo(f"note: {note}", err=True)
            options |= {
                "bytes_per_frame": bytes_per_frame, "aim": aim, "lengths": lengths,
                "masks": _checked_masks(mask, header, expected, skip=skip, every=every),
                "report": progress,
            }  # fmt: skip
            if file is None:
                prediction = encoder.predict(header, video.frames(), **options)
                _print_prediction(prediction, bytes_per_frame is None)
                return
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


@cli.command()
@click.argument("source", metavar="IN")
@click.option("--mask", required=True, metavar="MASK", help="As in hnv encode.")
@click.option("-o", "--output", required=True, metavar="OUT", help="As in hnv decode.")
@click.option("--format", "name", type=click.Choice(OUTPUT_FORMATS), help="Default: by OUT's name.")
@click.option(
    "--bpp",
    type=click.FloatRange(0, min_open=True),
    default=0.1,
    show_default=True,
    help="Bits per pixel that the fit may take: more for detail, less for what is likely.",
)
@click.option("--preset", type=click.Choice(PRESET_NAMES), default="medium", show_default=True)
@click.option("--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, help="As in hnv encode.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: all cores).")
@click.option("-y", "--yes", is_flag=True, help="Overwrite OUT without asking.")
@click.option("-n", "--no", is_flag=True, help="Never overwrite OUT.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def inpaint(
    source: str, mask: str, output: str, name: str | None, bpp: float, preset: str, seed: int,
    device: str, threads: int | None, yes: bool, no: bool, quiet: bool,
) -> None:  # fmt: skip
    """Replace what MASK covers in the video IN by what a network makes of the rest.

    A network is fitted to all frames without what is masked; only the masked samples come from
    it, the others stay the source's (exactly, in a lossless OUT such as .mkv or .y4m).

    \b
    hnv inpaint in.mp4 --mask logo.png -o out.mkv
    """
    if not _can_be_reread(source):
        raise UsageError("IN is read twice and cannot be a pipe")
    from hnervcodec import encoder, video
    from hnervcodec.decoder import Decoder
    from hnervcodec.masks import restored

    _use_threads(threads)
    name = name or ("y4m" if output == "-" else video.format_of(output))
    with video.VideoSource(source) as frames:
        header = frames.header
        lengths = _scanned(source, encoder.DEFAULT_SEGMENT_FRAMES, SCENECUT)
        assert lengths is not None
        count = sum(lengths)
        _check_files(source, output, name, range(count), yes, no)
        masks, again_masks = (_checked_masks(mask, header, count) for _ in range(2))
        assert masks is not None and again_masks is not None
        report = _EncodeProgress(header, preset, lengths, quiet)
        for note in [] if quiet else frames.notes:
            click.echo(f"note: {note}", err=True)
        with _open_sink(output, name, header) as sink, tempfile.TemporaryFile() as file:
            coded = cast(BinaryIO, file)
            encoder.encode(
                header, frames.frames(), coded, preset=preset, seed=seed, device=device,
                bytes_per_frame=bpp * header.width * header.height / 8, report=report,
                lengths=lengths, masks=masks,
            )  # fmt: skip
            coded.seek(0)
            with video.VideoSource(source) as again, Decoder(coded) as decoder:
                made = decoder.frames(range(len(decoder)))
                for given, hidden, (n, planes) in zip(
                    again.frames(), again_masks, made, strict=False
                ):
                    sink.write(n, restored(given, planes, hidden))


def _print_prediction(prediction: Prediction, is_guess: bool) -> None:
    count = prediction.segments
    click.echo(
        f"{prediction.frames} frames in {count} segment{'s' * (count > 1)}\n"
        f"network: {prediction.weights:,} weights, "
        f"{prediction.macs_per_pixel / 1000:.1f} kMAC per pixel\n"
        f"size: {'about' if is_guess else 'at most'} {prediction.bytes:,.0f} bytes\n"
        f"time: about {_duration(prediction.seconds)}"
    )


class _EncodeProgress:
    """One line that rewrites itself on a terminal, a line now and then elsewhere."""

    def __init__(self, header: VideoHeader, preset: str, lengths: list[int] | None, quiet: bool):
        self._lengths = lengths
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._interval = 0.2 if self._terminal else 10.0
        self._last = 0.0
        self._phase: tuple[int, str] = (-1, "")
        if not quiet:
            click.echo(
                f"{header.width}x{header.height}, {float(header.frame_rate):.5g} frames/s, "
                f"{header.bit_depth}-bit {CHROMA_NAMES[header.chroma_format]}, preset {preset}",
                err=True,
            )

    def __call__(self, number: int, progress: Progress) -> None:
        now, phase = time.monotonic(), (number, progress.phase)
        finished = progress.step == progress.steps
        due = now - self._last >= self._interval or phase != self._phase or finished
        if self._quiet or not due:
            return
        self._last, self._phase = now, phase
        rate = progress.step / max(progress.seconds, 1e-9)
        left = (progress.steps - progress.step) / rate
        total = ""
        if self._lengths:
            total = f"/{len(self._lengths)}"
            coming = sum(self._lengths[number + 1 :])
            left += coming / self._lengths[number] * progress.steps / rate
        remaining = "" if "trial" in progress.phase else f"  {_duration(left)} left"
        size = f"  {progress.bytes:,.0f} bytes" if progress.bytes else ""
        percent = 100 * progress.step / progress.steps
        line = (
            f"segment {number + 1}{total}  {progress.phase:8} {percent:5.1f} %"
            f"  {rate:.1f} steps/s  {progress.psnr:.2f} dB{size}{remaining}"
        )
        if self._terminal:
            click.echo(f"\r\x1b[K{line}", err=True, nl=finished)
        else:
            click.echo(line, err=True)

    def done(self, output: str, result: EncodeResult) -> None:
        if self._quiet:
            return
        names = ("Y", "Cb", "Cr")
        planes = "  ".join(
            f"{n} {p:.2f}" for n, p in zip(names, result.error.per_plane, strict=False)
        )
        share = 100 * result.bytes / result.target_bytes if result.target_bytes else 100
        of_target = f", {share:.1f} % of the target" if result.target_bytes else ""
        click.echo(
            f"{output}: {result.frames} frames in {result.bytes:,} bytes "
            f"({result.bits_per_pixel:.4f} bpp{of_target})\n"
            f"PSNR {result.error.average:.2f} dB  ({planes})\n"
            f"{result.segments} segment{'s' * (result.segments > 1)}, {result.weights:,} weights "
            f"in the last, {result.macs_per_pixel / 1000:.1f} kMAC per pixel, "
            f"{_duration(result.seconds)}",
            err=True,
        )
        if share < 99:
            click.echo(
                "note: the preset's largest network has no use for more bytes; a slower preset "
                "or fewer frames per --segment may have",
                err=True,
            )


# ---------------------------------------------------------------- decode


class _Ratio(click.ParamType[Fraction]):
    """A positive number, decimal or as a fraction, exactly."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        # Short, as Python's Fraction would take its time for 1e999999999.
        if not re.fullmatch(r"\d{1,9}(\.\d{1,6}|/0*[1-9]\d{0,8})?", str(value)):
            self.fail(f"{value!r} is not a number such as 60, 23.976 or 30000/1001", param, ctx)
        return Fraction(str(value))


_MAX_LEVEL = click.option(
    "--max-level",
    type=click.Choice([str(number) for number in LEVELS]),
    callback=lambda _context, _parameter, value: value and int(value),
    help="Refuse files of higher levels: a bound on the memory that untrusted ones can take.",
)
_ARITHMETIC = click.option(
    "--arithmetic",
    type=click.Choice(("auto", "native", "int8", "float32", "float64")),
    default="auto",
    help="Arithmetic path; the result is the same bits for all of them.",
)


@cli.command()
@click.argument("source", metavar="IN")
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="OUT",
    help="A file, a pattern such as frames/%05d.png, or - for a pipe (the default).",
)
@click.option(
    "--frames",
    "selection",
    metavar="SELECTION",
    help="7, 10-20 (both included), 10:20:2 (a Python slice) or a list: 3,9,20-22.",
)
@click.option("--fps", type=_Ratio(), help="Frames per second to come out: 60, 30000/1001.")
@click.option(
    "--slow-motion",
    type=_Ratio(),
    default="1",
    help="How many times as long the video is to take: 2, 3/2.",
)
@click.option(
    "--format",
    "name",
    type=click.Choice(OUTPUT_FORMATS),
    help="Default: by OUT's name; y4m on a pipe.",
)
@click.option("--recover", is_flag=True, help="Decode what is intact of a damaged file (exit 3).")
@_MAX_LEVEL
@_ARITHMETIC
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: all cores).")
@click.option("-y", "--yes", is_flag=True, help="Overwrite OUT without asking.")
@click.option("-n", "--no", is_flag=True, help="Never overwrite OUT.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def decode(
    source: str, output: str, selection: str | None, fps: Fraction | None, slow_motion: Fraction,
    name: str | None, recover: bool, max_level: int | None, arithmetic: str, device: str,
    threads: int | None, yes: bool, no: bool, quiet: bool,
) -> None:  # fmt: skip
    """Reconstruct frames of the .hnv file IN, each checked against its checksum.

    With --fps or --slow-motion the network also makes frames at moments that were never coded,
    from the embeddings of the two frames around them: the same samples on every machine, but no
    checksum covers them. Between two segments the nearer frame is repeated. --frames then counts
    what comes out.

    \b
    hnv decode x.hnv -o - | ffmpeg -i - x.mp4      Y4M on a pipe
    hnv decode x.hnv --frames 10-20 -o part.mkv    lossless FFV1 of eleven frames
    hnv decode x.hnv --format framemd5 -o -        a line "INDEX, MD5" per frame
    hnv decode x.hnv --slow-motion 4 -o slow.mp4   three made frames after each coded one
    """
    with _open_decoder(source, recover, max_level, arithmetic, device, threads) as decoder:
        from hnervcodec import video
        from hnervcodec.decoder import parse_frames, retimed

        name = name or ("y4m" if output == "-" else video.format_of(output))
        header, positions = retimed(decoder.video, fps, slow_motion)
        count = len(positions)
        asked = parse_frames(selection, count) if selection else range(count)
        wanted = [n for n in asked if decoder.is_intact(positions[n])]
        lost = [n for n in asked if not decoder.is_intact(positions[n])]
        if not wanted:
            raise FileError("none of the selected frames is intact")
        _check_files(source, output, name, wanted, yes, no)
        start = time.monotonic()
        with _open_sink(output, name, header) as sink:
            decoded = decoder.frames([positions[n] for n in wanted])
            for done, (index, (_, planes)) in enumerate(zip(wanted, decoded, strict=True), 1):
                sink.write(index, planes)
                if not quiet and sys.stderr.isatty() and (done % 10 == 0 or done == len(wanted)):
                    rate = done / (time.monotonic() - start)
                    click.echo(f"\r\x1b[K{done}/{len(wanted)} frames  {rate:.1f} frames/s",
                               err=True, nl=done == len(wanted))  # fmt: skip
        if name == "mkv" and header.sample_aspect[1] and not quiet:
            num, den = header.sample_aspect
            aspect = f"{header.width * num}:{header.height * den}"
            click.echo(
                f"note: {output} does not carry the sample aspect {num}:{den}; "
                f"restore it with ffmpeg -aspect {aspect} -c copy",
                err=True,
            )
        if decoder.reader.damage:
            missing = f"; frames {_ranges(lost)} are missing" if lost else ""
            raise FileError(decoder.reader.damage[0] + missing)


def _check_files(
    source: str, output: str, name: str, numbers: Sequence[int], yes: bool, no: bool
) -> None:
    """What can be known before anything is computed."""
    from hnervcodec.video import png_name

    if output == "-":
        return
    if name == "png" and "%" not in output and len(numbers) > 1:
        raise UsageError(
            f"{len(numbers)} frames do not fit into one PNG: write a pattern like %05d.png"
        )
    names = [png_name(output, n) for n in numbers] if name == "png" else [output]
    if not Path(names[0]).absolute().parent.is_dir():
        raise OutputError(f"cannot write {names[0]}: no such folder")
    existing = [file for file in names if os.path.exists(file)]
    if existing:
        _check_overwrite(source, existing[0], yes, no)


@contextmanager
def _open_sink(output: str, name: str, header: VideoHeader) -> Iterator[Any]:
    from hnervcodec import video
    from hnervcodec.files import complete_or_absent, open_complete_or_absent

    if output == "-" and name not in video.STREAMED:
        raise UsageError(f"{name} cannot be written to a pipe: use y4m, raw or framemd5")
    if output == "-" and name != "framemd5" and sys.stdout.isatty():
        raise UsageError("video is not written to a terminal: use -o FILE, or pipe it on")
    if output == "-":
        sink: video.Sink = video.open_stream_sink(sys.stdout.buffer, header, name)
        yield sink
        sink.close()
    elif name in video.STREAMED:
        with open_complete_or_absent(output) as file:
            sink = video.open_stream_sink(file, header, name)
            yield sink
            sink.close()
    elif name == "png":
        sink = video.PngSink(output, header)
        yield sink
    else:
        with complete_or_absent(output) as path:
            sink = video.LibavSink(path, header, name)
            yield sink
            sink.close()


# ---------------------------------------------------------------- info, verify


@cli.command()
@click.argument("source", metavar="IN")
@click.option("--json", "as_json", is_flag=True, help="For programs; the same facts.")
@_MAX_LEVEL
def info(source: str, as_json: bool, max_level: int | None) -> None:
    """Say what the .hnv file IN holds and where every byte of it went."""
    with _open_file(source) as file:
        facts = describe(Reader(file, max_level=max_level))
    facts = {"file": source, **facts}
    click.echo(json.dumps(facts, indent=2) if as_json else _as_text(facts))


def describe(reader: Reader) -> dict[str, Any]:
    """Facts of a file as plain JSON types; `bytes` adds up to the file's size."""
    from hnervcodec import segment as segments
    from hnervcodec.container import CHUNK_OVERHEAD, PREFIX_SIZE

    video = reader.video
    spent: dict[str, float] = {"prefix": PREFIX_SIZE}
    rows = []
    for chunk in reader.check():
        if chunk.kind != b"SEGM":
            kind = chunk.kind.decode()
            spent[kind] = spent.get(kind, 0) + CHUNK_OVERHEAD + chunk.length
            continue
        payload = reader.payload(chunk)
        segment = segments.read(payload, video, reader.level)
        usage = segments.usage(payload, segment, video, reader.level)
        stem = segment.specs[0]
        rows.append({
            "first_frame": segment.first_frame,
            "frames": segment.frame_count,
            "bytes": CHUNK_OVERHEAD + chunk.length,
            "chunk": CHUNK_OVERHEAD,
            **asdict(usage),
            "embedding_shape": [stem.in_channels, stem.height, stem.width],
            "weights": {spec.name: list(spec.weight_shape) for spec in segment.specs},
            "macs_per_pixel": sum(s.macs for s in segment.specs) / (video.width * video.height),
        })  # fmt: skip
    spent["segments"] = sum(row["bytes"] for row in rows)
    pixels = video.width * video.height * video.frame_count
    return {
        "size": reader.size,
        "format": f"{reader.prefix.major}.{reader.prefix.minor}",
        "profile": reader.prefix.profile,
        "level": reader.level.number,
        "video": {**asdict(video), "frame_rate": str(video.frame_rate)},
        "seconds": float(video.frame_count / video.frame_rate),
        "bits_per_pixel": 8 * reader.size / pixels,
        "bits_per_second": 8 * reader.size * float(video.frame_rate) / video.frame_count,
        "bytes": spent,
        "segments": rows,
    }


def _as_text(facts: dict[str, Any]) -> str:
    video = facts["video"]
    total = facts["size"]
    lines = [
        f"{facts['file']}: {video['width']}x{video['height']}, {video['frame_count']} frames at "
        f"{video['frame_rate']} frames/s ({facts['seconds']:.2f} s), {video['bit_depth']}-bit "
        f"{CHROMA_NAMES[video['chroma_format']]}{', full range' if video['full_range'] else ''}",
        f"format {facts['format']}, profile {facts['profile']}, level {facts['level']}; "
        f"{total:,} bytes, {facts['bits_per_pixel']:.4f} bpp, "
        f"{facts['bits_per_second'] / 1000:.1f} kbit/s",
        "",
        f"{'bytes':>12} {'share':>7}",
    ]

    def row(name: str, size: float, note: str = "") -> None:
        lines.append(f"{size:12,.1f} {100 * size / total:6.2f} %  {name:28}{note}".rstrip())

    for name, size in facts["bytes"].items():
        if name != "segments":
            row(name, size)
    for n, segment in enumerate(facts["segments"]):
        last = segment["first_frame"] + segment["frames"] - 1
        row(f"segment {n}", segment["bytes"],
            f"frames {segment['first_frame']}-{last}, {segment['macs_per_pixel'] / 1000:.1f} "
            "kMAC per pixel")  # fmt: skip
        row("  chunk", segment["chunk"])
        row("  header and tables", segment["header"])
        shape = "x".join(map(str, segment["embedding_shape"]))
        row("  embeddings", segment["embedding"], f"{shape} per frame")
        for name, size in segment["layers"].items():
            shape = segment["weights"][name]
            count = shape[0] * shape[1] * shape[2] * shape[3]
            note = f"{'x'.join(map(str, shape))}, {8 * size / count:.2f} bits per weight"
            row(f"  {name}", size, note)
        row("  range coder's end", segment["coder"])
        row("  frame checksums", segment["frame_crcs"])
    return "\n".join(lines)


@cli.command()
@click.argument("source", metavar="IN")
@_MAX_LEVEL
@_ARITHMETIC
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: all cores).")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def verify(
    source: str, max_level: int | None, arithmetic: str, device: str, threads: int | None,
    quiet: bool,
) -> None:  # fmt: skip
    """Check every checksum of IN, of its bytes and of every decoded frame."""
    with _open_decoder(source, False, max_level, arithmetic, device, threads) as decoder:
        decoder.reader.check()
        start = time.monotonic()
        count = sum(1 for _ in decoder.frames(range(len(decoder))))
        rate = count / (time.monotonic() - start)
        paths = "/".join(sorted(set(decoder.arithmetic().values())))
        segments = len(decoder.reader.index)
    if not quiet:
        click.echo(
            f"{source}: {count} frames in {segments} segment{'s' * (segments > 1)} verified "
            f"({rate:.1f} frames/s, {paths} arithmetic)"
        )


@cli.command()
@click.argument("reference", metavar="REF")
@click.argument("distorted", metavar="DIST")
@click.option("--limit", type=click.IntRange(1), help="Frames to compare at most.")
@click.option("--csv", "table", metavar="FILE", help="A row per frame; - for standard output.")
@click.option("--json", "as_json", is_flag=True, help="For programs: the whole and every frame.")
@click.option("--plot", metavar="FILE", help="PSNR over the frames, as a PNG (needs matplotlib).")
def metrics(
    reference: str, distorted: str, limit: int | None, table: str | None, as_json: bool,
    plot: str | None,
) -> None:  # fmt: skip
    """Say how much the video DIST differs from REF; either may be a .hnv file.

    PSNR and SSIM are those of ffmpeg's filters, MS-SSIM is of luma. The two must have one size,
    pixel format and number of frames. Identical planes have an infinite PSNR, null in JSON.

    \b
    hnv metrics in.mp4 out.hnv --csv frames.csv --plot frames.png
    """
    from hnervcodec import quality

    with _open_video(reference) as (video, sources), _open_video(distorted) as (other, made):
        same = ("width", "height", "chroma_format", "bit_depth")
        for name in same:
            if getattr(video, name) != getattr(other, name):
                raise UsageError(
                    f"{reference} and {distorted} differ in {name.replace('_', ' ')}: "
                    f"{getattr(video, name)} and {getattr(other, name)}"
                )
        try:
            pairs = islice(zip(sources, made, strict=True), limit)
            frames = list(quality.compare(video, pairs))
        except ValueError as error:
            raise UsageError(
                f"{reference} and {distorted} differ in their number of frames: use --limit"
            ) from error
    if not frames:
        raise SourceError(f"{reference} holds no frames")
    whole = quality.summary(video, frames)
    rows = [asdict(frame) for frame in frames]
    if table:
        _write_table(table, rows)
    if plot:
        from hnervcodec.files import complete_or_absent

        try:
            with complete_or_absent(plot) as path:
                quality.plot(str(path), frames, f"{distorted}, {whole['psnr_y']:.2f} dB Y")
        except ImportError as error:
            raise UsageError("--plot needs matplotlib: pip install matplotlib") from error
    if as_json:
        click.echo(json.dumps({"frames": [_finite(row) for row in rows], **_finite(whole)}))
    elif table != "-":
        names = {"psnr": "PSNR, dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM"}
        for kind, label in names.items():
            values = {key.removeprefix(kind).strip("_"): value for key, value in whole.items()
                      if key.startswith(kind) and not math.isnan(value)}  # fmt: skip
            digits = 2 if kind == "psnr" else 4
            parts = (f"{key} {value:.{digits}f}".strip() for key, value in values.items())
            click.echo(f"{label:9} {'  '.join(parts)}")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value if math.isfinite(value) else None for key, value in row.items()}


def _write_table(path: str, rows: list[dict[str, Any]]) -> None:
    import csv

    from hnervcodec.files import open_complete_or_absent

    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if path == "-":
        click.echo(text.getvalue(), nl=False)
    else:
        with open_complete_or_absent(path) as file:
            file.write(text.getvalue().encode())


@contextmanager
def _open_video(source: str) -> Iterator[tuple[VideoHeader, Iterator[Planes]]]:
    """Header and frames of a .hnv file or of anything that libav opens."""
    is_ours = False
    if os.path.isfile(source):
        with open(source, "rb") as file:
            is_ours = file.read(len(SIGNATURE)) == SIGNATURE
    if is_ours:
        with _open_decoder(source, False, None, "auto", "cpu", None) as decoder:
            yield decoder.video, (planes for _, planes in decoder.frames(range(len(decoder))))
    else:
        from hnervcodec.video import VideoSource

        with VideoSource(source) as video:
            yield video.header, video.frames()


@cli.command()
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT", help="The .onnx file.")
@click.option("--segment", type=click.IntRange(0), default=0, help="Which segment's network.")
@click.option(
    "--integers", is_flag=True, help="Convolve by ConvInteger; default: float32, as exact here."
)
@_MAX_LEVEL
@click.option("-y", "--yes", is_flag=True, help="Overwrite OUT without asking.")
@click.option("-n", "--no", is_flag=True, help="Never overwrite OUT.")
def export(
    source: str, output: str, segment: int, integers: bool, max_level: int | None, yes: bool,
    no: bool,
) -> None:  # fmt: skip
    """Write a segment's network as an ONNX graph, and its embeddings beside it as .npy.

    The graph takes embeddings, uint8 [B, C, h, w], and gives planes y, cb and cr, [B, H, W]. All it
    computes are integers that float32 holds exactly, so its samples are those of hnv decode in any
    runtime that rounds as it should. Half-precision runtimes do not.

    \b
    hnv export x.hnv -o x.onnx      writes x.onnx and x.npy
    """
    if not output.endswith(".onnx"):
        raise UsageError(f"{output!r} does not end in .onnx")
    with _open_file(source) as file:
        reader = Reader(file, max_level=max_level)
        if segment >= len(reader.index):
            raise UsageError(f"segment {segment}: the last one is {len(reader.index) - 1}")
        embeddings = str(Path(output).with_suffix(".npy"))
        for path in (output, embeddings):
            _check_overwrite(source, path, yes, no)
        try:
            from hnervcodec.export import to_onnx
        except ImportError as error:
            raise UsageError("exporting needs onnx: pip install hnervcodec[onnx]") from error
        import numpy as np

        from hnervcodec import segment as segments
        from hnervcodec.files import open_complete_or_absent

        entry = reader.index[segment]
        read = segments.read(reader.segment_payload(entry), reader.video, reader.level)
        model = to_onnx(read, reader.video, integers)
        with open_complete_or_absent(embeddings) as sink, open_complete_or_absent(output) as graph:
            np.save(sink, read.embedding)
            graph.write(model.SerializeToString())
    click.echo(
        f"{output}: {sum(spec.weights for spec in read.specs):,} weights; {embeddings}: "
        f"frames {entry.first_frame}-{entry.first_frame + read.frame_count - 1}",
        err=True,
    )


# ---------------------------------------------------------------- helpers


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"


def _ranges(numbers: list[int]) -> str:
    """1-3,7 for 1, 2, 3, 7."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][-1] + 1:
            parts[-1][1:] = [n]
        else:
            parts.append([n])
    return ",".join("-".join(map(str, part)) for part in parts)


@contextmanager
def _open_file(source: str) -> Iterator[BinaryIO]:
    """The .hnv file, seekable; - reads all of standard input."""
    if source == "-":
        yield io.BytesIO(sys.stdin.buffer.read())
        return
    try:
        file: BinaryIO = open(source, "rb")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise SourceError(f"cannot open {source}: {error.strerror}") from error
    with file:
        try:
            yield file if file.seekable() else io.BytesIO(file.read())
        except (FileError, UnsupportedError, LimitError) as error:
            error.args = (f"{source}: {error}",)
            raise


@contextmanager
def _open_decoder(
    source: str, recover: bool, max_level: int | None, arithmetic: str, device: str,
    threads: int | None,
) -> Iterator[Decoder]:  # fmt: skip
    with _open_file(source) as file:
        reader = Reader(
            file, recover=recover, max_level=max_level
        )  # a wrong file fails before torch is loaded
        from hnervcodec.decoder import Decoder

        yield Decoder(reader, path=arithmetic, device=device, threads=threads)


class _Pipe(io.RawIOBase):
    """Standard output without seeking, even where it is a file that holds something already."""

    def __init__(self, file: BinaryIO):
        self._target = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._target.write(data)

    def flush(self) -> None:
        self._target.flush()


def _check_overwrite(source: str, output: str, yes: bool, no: bool) -> None:
    if output == "-" or not os.path.exists(output):
        return
    if source != "-" and os.path.exists(source) and os.path.samefile(source, output):
        raise UsageError(f"input and output are the same file, {output}")
    if not os.path.isfile(output) or yes:
        return
    if no or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{output} exists: use -y to overwrite it")
    if not click.confirm(f"{output} exists. Overwrite?", err=True):
        raise UsageError(f"{output} was left as it is")


@contextmanager
def _open_output(output: str | None) -> Iterator[BinaryIO | None]:
    if output is None:
        yield None
        return
    if output == "-":
        if sys.stdout.isatty():
            raise UsageError("a .hnv file is not written to a terminal: use -o FILE")
        yield cast(BinaryIO, _Pipe(sys.stdout.buffer))
        return
    from hnervcodec.files import open_complete_or_absent

    if not Path(output).absolute().parent.is_dir():
        raise OutputError(f"cannot write {output}: no such folder")
    with open_complete_or_absent(output) as file:
        yield file
