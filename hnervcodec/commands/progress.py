"""What an encode says while it works and when it has."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from hnervcodec.encoding.observer import Observer
from hnervcodec.fitting.progress import Phase

if TYPE_CHECKING:
    from hnervcodec.bitstream.headers import VideoHeader
    from hnervcodec.encoding.encoder import EncodeResult, Prediction
    from hnervcodec.fitting.progress import Progress


class EncodeProgress(Observer):
    """One line that rewrites itself on a terminal, a line now and then elsewhere."""

    def __init__(self, preset: str, quiet: bool):
        self._preset = preset
        self._lengths: dict[int, int] = {}  # of the segments to be fitted, once they are known
        self._total = 0  # segments of the video, of which `_lengths` may have a share
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._interval = 0.2 if self._terminal else 10.0
        self._start = self._last = time.monotonic()
        self._running: dict[int, Progress] = {}
        self._share: dict[int, float] = {}  # of each segment's fit that is behind us
        self._warnings: dict[int, str] = {}
        self._gained: dict[int, float] = {}  # of that, since we began

    def opened(self, video: VideoHeader) -> None:
        self._start = time.monotonic()
        if not self._quiet:
            click.echo(
                f"{video.width}x{video.height}, {float(video.frame_rate):.5g} frames/s, "
                f"{video.bit_depth}-bit {video.format_name}, preset {self._preset}",
                err=True,
            )

    def scanned(self, frames: int) -> None:
        now = time.monotonic()
        if not self._quiet and now - self._last >= self._interval:
            self._last = now
            rate = frames / (now - self._start)
            self._say(f"looking for changes of scene: {frames} frames  {rate:.0f} frames/s", False)

    def planned(self, lengths: dict[int, int], segments: int) -> None:
        self._lengths, self._total = lengths, segments
        if not self._quiet:
            click.echo(self._clear, err=True, nl=False)
        self._start = time.monotonic()

    @property
    def _clear(self) -> str:
        """What takes the line away that rewrites itself."""
        return "\r\x1b[K" if self._terminal else ""

    def noted(self, note: str) -> None:
        if not self._quiet:
            click.echo(f"{self._clear}note: {note}", err=True)

    def progressed(self, number: int, progress: Progress) -> None:
        before = self._running.get(number)
        stage = progress.phase, progress.attempt
        begins = before is None or (before.phase, before.attempt) != stage
        self._running[number] = progress
        self._count(number, progress)
        if progress.phase is Phase.DONE:
            del self._running[number]
            return
        if progress.warning and progress.warning != self._warnings.get(number) and not self._quiet:
            self._say(f"note: {progress.warning}", True)
        self._warnings[number] = progress.warning
        finished = progress.step == progress.steps and len(self._running) == 1
        now = time.monotonic()
        if not self._quiet and (now - self._last >= self._interval or begins or finished):
            self._last = now
            several = len(self._running) > 1
            self._say(self._of_all() if several else self._of_one(number, progress), finished)

    def _count(self, number: int, progress: Progress) -> None:
        if progress.phase is Phase.TRIAL:
            return
        share = progress.step / progress.steps
        if progress.phase is Phase.DONE or number not in self._share:
            gained = 0.0  # it was done before, or goes on from there
        else:
            gained = max(share - self._share[number], 0)
        self._share[number] = share
        self._gained[number] = self._gained.get(number, 0) + gained

    def _frames(self, shares: dict[int, float]) -> float:
        return sum(self._lengths.get(number, 0) * share for number, share in shares.items())

    def _left(self) -> str:
        """Of all segments, if each frame takes as long as those so far."""
        gained = self._frames(self._gained)
        if not gained:
            return ""
        remaining = sum(self._lengths.values()) - self._frames(self._share)
        return f"  {duration(remaining * (time.monotonic() - self._start) / gained)} left"

    def _of_one(self, number: int, progress: Progress) -> str:
        rate = progress.step / max(progress.seconds, 1e-9)
        left = self._left()
        if progress.attempt or not self._lengths:
            left = f"  {duration((progress.steps - progress.step) / rate)} left of this fit"
        if progress.phase is Phase.TRIAL:
            left = ""
        total = f"/{self._total}" if self._total else ""
        label = f"{progress.phase} {progress.attempt or ''}".strip()
        size = f"  {progress.bytes:,.0f} bytes" if progress.bytes else ""
        return (
            f"segment {number + 1}{total}  {label:8} "
            f"{100 * progress.step / progress.steps:5.1f} %  {rate:.1f} steps/s  "
            f"{progress.psnr:.2f} dB{size}{left}"
        )

    def _of_all(self) -> str:
        running = self._running.values()
        done = sum(share == 1 and n not in self._running for n, share in self._share.items())
        share = self._frames(self._share) / max(sum(self._lengths.values()), 1)
        rate = sum(one.step / max(one.seconds, 1e-9) for one in running)
        quality = sum(one.psnr for one in running) / len(running)
        return (
            f"{done} of {len(self._lengths)} segments done, {len(running)} at work  "
            f"{100 * share:5.1f} %  {rate:.1f} steps/s  {quality:.2f} dB{self._left()}"
        )

    def _say(self, line: str, is_last: bool) -> None:
        if self._terminal:
            click.echo(f"{self._clear}{line}", err=True, nl=is_last)
        else:
            click.echo(line, err=True)

    def done(self, output: str, result: EncodeResult) -> None:
        if self._quiet:
            return
        planes = "  ".join(
            f"{name} {psnr:.2f}"
            for name, psnr in zip(result.video.plane_names, result.error.per_plane, strict=True)
        )
        share = 100 * result.bytes / result.target_bytes if result.target_bytes else 100
        of_target = f", {share:.1f} % of the target" if result.target_bytes else ""
        beside = (
            f", {result.side_data_bytes:,} of them sound and times"
            if result.side_data_bytes
            else ""
        )
        click.echo(
            f"{output}: {result.frames} frames in {result.bytes:,} bytes{beside} "
            f"({result.bits_per_pixel:.4f} bpp{of_target})\n"
            f"PSNR {result.error.average:.2f} dB  ({planes})\n"
            f"{result.segments} segment{'s' * (result.segments > 1)}, {result.weights:,} weights "
            f"in the last, {result.macs_per_pixel / 1000:.1f} kMAC per pixel, "
            f"{duration(result.seconds)}",
            err=True,
        )
        for line in result.damage:
            click.echo(line, err=True)
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
