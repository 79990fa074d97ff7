"""What an encode says while it works and when it has."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from hnervcodec.planes import CHROMA_NAMES

if TYPE_CHECKING:
    from hnervcodec.encoder import EncodeResult, Prediction
    from hnervcodec.fitting import Progress
    from hnervcodec.syntax import VideoHeader


class EncodeProgress:
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
        remaining = "" if "trial" in progress.phase else f"  {duration(left)} left"
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
            f"{duration(result.seconds)}",
            err=True,
        )
        if share < 99:
            click.echo(
                "note: the preset's largest network has no use for more bytes; a slower preset "
                "or fewer frames per --segment may have",
                err=True,
            )


def print_prediction(prediction: Prediction, is_guess: bool) -> None:
    count = prediction.segments
    click.echo(
        f"{prediction.frames} frames in {count} segment{'s' * (count > 1)}\n"
        f"network: {prediction.weights:,} weights, "
        f"{prediction.macs_per_pixel / 1000:.1f} kMAC per pixel\n"
        f"size: {'about' if is_guess else 'at most'} {prediction.bytes:,.0f} bytes\n"
        f"time: about {duration(prediction.seconds)}"
    )


def duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"
