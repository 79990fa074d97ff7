"""The types of option values, and the options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import click

from hnervcodec.bitstream.levels import LEVELS
from hnervcodec.fitting.presets import PRESETS

F = TypeVar("F", bound=Callable[..., Any])


class Amount(click.ParamType[float]):
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


class Ratio(click.ParamType[Fraction]):
    """A positive number, decimal or as a fraction, exactly."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        # Short, as Python's Fraction would take its time for 1e999999999.
        if not re.fullmatch(r"\d{1,9}(\.\d{1,6}|/0*[1-9]\d{0,8})?", str(value)):
            self.fail(f"{value!r} is not a number such as 60, 23.976 or 30000/1001", param, ctx)
        return Fraction(str(value))


class Timestamp(click.ParamType[Fraction]):
    """A time, in seconds or as [HH:]MM:SS, with an optional fraction, exactly."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        match = re.fullmatch(r"(?:(?:(\d{1,4}):)?([0-5]?\d):)?(\d{1,9}(?:\.\d{1,9})?)", str(value))
        if not match or (match[2] and Fraction(match[3]) >= 60):
            self.fail(f"{value!r} is not a time such as 90, 1.5 or 00:01:30.500", param, ctx)
        return 3600 * int(match[1] or 0) + 60 * int(match[2] or 0) + Fraction(match[3])


class SegmentFrames(click.ParamType[int | None]):
    """1 to 2048, or "auto": None."""

    name = "n|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        if value == "auto":
            return None
        try:
            frames = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of frames nor auto.", param, ctx)
        return click.IntRange(1, LEVELS[max(LEVELS)].frames).convert(frames, param, ctx)


class Share(click.ParamType[tuple[int, int]]):
    """I/N, I from 1 to N."""

    name = "i/n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(value))
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r} is not a share such as 2/4", param, ctx)
        return int(match[1]), int(match[2])


MAX_LEVEL = click.option(
    "--max-level",
    type=click.Choice([str(number) for number in LEVELS]),
    callback=lambda _context, _parameter, value: value and int(value),
    help="Refuse files of higher levels: a bound on the memory that untrusted ones can take.",
)
ARITHMETIC = click.option(
    "--arithmetic",
    type=click.Choice(("auto", "native", "int8", "float32", "float64")),
    default="auto",
    help="Arithmetic path; the result is the same bits for all of them.",
)


def shared(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator; --help lists them in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


THREADS = click.option(
    "--threads", type=click.IntRange(1), help="CPU threads (default: all cores)."
)
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
OVERWRITE = shared(
    click.option("-y", "--yes", is_flag=True, help="Overwrite OUT without asking."),
    click.option("-n", "--no", is_flag=True, help="Never overwrite OUT."),
)
PRESET = click.option(
    "--preset",
    type=click.Choice(tuple(PRESETS)),
    default="medium",
    show_default=True,
    help="Slower presets fit longer and look better at the same size.",
)
SEED = click.option(
    "--seed",
    type=click.IntRange(0, (1 << 63) - 1),
    default=0,
    help="Same seed, machine and threads: same file.",
)
RESUME = click.option(
    "--resume",
    is_flag=True,
    help="Go on with an encode that was interrupted, where it was (-y discards it instead).",
)
FIT_DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or mps."
)
DECODE_DEVICE = click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
STREAM = click.option(
    "--stream",
    type=click.IntRange(0),
    metavar="N",
    help="IN's video stream, by its number; default: the one that ffmpeg would choose.",
)
STRICT = click.option(
    "--strict", is_flag=True, help="Refuse a damaged IN; default: skip what cannot be decoded."
)
FRAMES = click.option(
    "--frames",
    "selection",
    metavar="SELECTION",
    help="7, 10-20 (both included), 10:20:2 (a Python slice) or a list: 3,9,20-22.",
)
FPS = click.option("--fps", type=Ratio(), help="Frames per second to come out: 60, 30000/1001.")
SLOW_MOTION = click.option(
    "--slow-motion",
    type=Ratio(),
    default="1",
    help="How many times as long the video is to take: 2, 3/2.",
)
