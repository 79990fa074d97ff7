"""What an encode prints on standard error: what it is at, how long that still takes, and at the end
what it made."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Collection
from statistics import fmean
from typing import TYPE_CHECKING

import click

from hnervcodec.encoding.observer import Observer
from hnervcodec.fitting.presets import PRESETS
from hnervcodec.fitting.progress import Phase

if TYPE_CHECKING:
    from hnervcodec.bitstream.headers import VideoHeader
    from hnervcodec.encoding.encoder import EncodeResult, Prediction
    from hnervcodec.fitting.progress import Progress


BLOCK = 4  # steps that are timed together, as each fourth also computes the rate and takes longer
REMEMBERED_BLOCKS = 250  # of each phase, for how long a step takes
FIRST_BLOCKS = 150  # of float steps, that stand for quantized ones until there are more of these
FEWEST_BLOCKS = 2  # before anything is said of the time
QUANTIZED_COST = 1.2  # a quantized step's time in float steps, until some have been seen


class TimeLeft:
    """Predicts how long the fits of an encode still take.

    A step takes what the middle half of the recent ones took, so that some slow ones, as while
    another program is busy, change nothing. Float and quantized steps count apart. Segments that
    have not begun also take trial fits and sketches as long as those of the others.

    lengths: frames of each segment that is to be fitted.
    quantized_from: share of a fit's steps after which they are quantized, 0..1.
    """

    def __init__(self, lengths: dict[int, int], quantized_from: float):
        self._lengths, self._quantized_from = lengths, quantized_from
        self._block_start: dict[int, Progress] = {}  # by segment
        self._trials: dict[int, float] = {}  # seconds of trials and sketches, by segment
        # Seconds that a whole fit of one frame would take, by the time of each block of steps.
        self._costs: dict[Phase, deque[float]] = {
            phase: deque(maxlen=REMEMBERED_BLOCKS) for phase in (Phase.FLOAT, Phase.QUANTIZED)
        }

    def heard(self, number: int, progress: Progress) -> None:
        """Takes in a report on segment `number`."""
        start = self._block_start.get(number)
        if not start or (start.phase, start.attempt) != (progress.phase, progress.attempt):
            self._block_start[number] = progress
            return
        steps, seconds = progress.step - start.step, progress.seconds - start.seconds
        if steps <= 0:  # another trial, or a fit that was taken up again
            self._block_start[number] = progress
        elif progress.phase in (Phase.TRIAL, Phase.COARSE):
            self._block_start[number] = progress
            self._trials[number] = self._trials.get(number, 0) + seconds
        elif steps >= BLOCK and progress.phase in self._costs:
            self._block_start[number] = progress
            frames = self._lengths.get(number, 1)
            self._add(progress.phase, seconds * progress.steps / steps / frames)

    def _add(self, phase: Phase, cost: float) -> None:
        costs = self._costs[phase]
        if phase is Phase.QUANTIZED and not costs:
            recent = list(self._costs[Phase.FLOAT])[-FIRST_BLOCKS:]
            costs.extend(QUANTIZED_COST * plain for plain in recent)
        costs.append(cost)

    def seconds(self, done: dict[int, float], at_work: int) -> float | None:
        """Seconds until all is fitted; None as long as nobody can tell.

        done: share of each segment's fit that is behind us, 0..1; segments that have not begun are
        missing. at_work: how many segments are fitted at a time.
        """
        return self._seconds(self._lengths, done, at_work)

    def seconds_of_one(self, number: int, done: float) -> float | None:
        """The same for the fit of one segment alone, of which that share is behind us."""
        return self._seconds({number: self._lengths.get(number, 1)}, {number: done}, 1)

    def _seconds(
        self, lengths: dict[int, int], done: dict[int, float], at_work: int
    ) -> float | None:
        plain, quantized = (middle_mean(costs) for costs in self._costs.values())
        if plain is None:
            if quantized is None:
                return None
            plain = quantized / QUANTIZED_COST
        if quantized is None:
            quantized = plain * QUANTIZED_COST
        tried = sum(self._lengths.get(number, 1) for number in self._trials)
        trial = sum(self._trials.values()) / max(tried, 1)  # seconds per frame
        total = 0.0
        for number, frames in lengths.items():
            left = 1 - done.get(number, 0)
            left_quantized = min(left, 1 - self._quantized_from)
            total += frames * (left_quantized * quantized + (left - left_quantized) * plain)
            total += 0 if number in done or number in self._trials else frames * trial
        return total / max(at_work, 1)


def middle_mean(values: Collection[float]) -> float | None:
    """The mean of the middle half of `values`; None if there are too few."""
    if len(values) < FEWEST_BLOCKS:
        return None
    ordered, quarter = sorted(values), len(values) // 4
    return fmean(ordered[quarter : len(values) - quarter])


class EncodeProgress(Observer):
    """One line that rewrites itself on a terminal, a line now and then elsewhere.

    elsewhere: other processes fit the segments, several at once if there are several.
    """

    def __init__(self, preset: str, quiet: bool, *, elsewhere: bool = False):
        self._preset, self._elsewhere = preset, elsewhere
        self._lengths: dict[int, int] = {}  # of the segments to be fitted, once they are known
        self._total = 0  # segments of the video, of which `_lengths` may have a share
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._interval = 0.2 if self._terminal else 10.0
        self._start = self._last = time.monotonic()
        self._running: dict[int, Progress] = {}
        self._share: dict[int, float] = {}  # of each segment's fit that is behind us
        self._warnings: dict[int, str] = {}
        self._time = TimeLeft({}, PRESETS[preset].fit.quantize_from)

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
        self._time = TimeLeft(lengths, PRESETS[self._preset].fit.quantize_from)
        if not self._quiet:
            click.echo(self._clear, err=True, nl=False)

    @property
    def _clear(self) -> str:
        """What takes the line away that rewrites itself."""
        return "\r\x1b[K" if self._terminal else ""

    def noted(self, note: str) -> None:
        if not self._quiet:
            click.echo(f"{self._clear}note: {note}", err=True)

    def progressed(self, number: int, progress: Progress) -> None:
        self._warn(number, progress)
        if progress.phase in (Phase.READ, Phase.START):
            self._start_progressed(progress)
            return
        before = self._running.get(number)
        stage = progress.phase, progress.attempt
        begins = before is None or (before.phase, before.attempt) != stage
        self._running[number] = progress
        self._count(number, progress)
        if progress.phase is Phase.DONE:
            del self._running[number]
            return
        finished = progress.step == progress.steps and len(self._running) == 1
        now = time.monotonic()
        if not self._quiet and (now - self._last >= self._interval or begins or finished):
            self._last = now
            several = len(self._running) > 1 or (self._elsewhere and len(self._lengths) > 1)
            self._say(self._of_all() if several else self._of_one(number, progress), finished)

    def _warn(self, number: int, progress: Progress) -> None:
        if progress.warning and progress.warning != self._warnings.get(number) and not self._quiet:
            self._say(f"note: {progress.warning}", True)
        self._warnings[number] = progress.warning

    def _start_progressed(self, progress: Progress) -> None:
        now, is_last = time.monotonic(), progress.step == progress.steps
        if self._quiet or not (now - self._last >= self._interval or is_last):
            return
        self._last = now
        rate, share = progress.step / max(progress.seconds, 1e-9), progress.step / progress.steps
        if progress.phase is Phase.READ:
            line = f"reading all frames: {100 * share:5.1f} %  {rate:.0f} frames/s"
        else:
            left = time_left(progress.seconds * (1 / share - 1), " of this fit")
            line = (
                f"start of all segments  {100 * share:5.1f} %  {rate:.1f} steps/s  "
                f"{progress.psnr:.2f} dB{left}"
            )
        self._say(line, is_last and progress.phase is Phase.START)

    def _count(self, number: int, progress: Progress) -> None:
        self._time.heard(number, progress)
        if not progress.phase.is_before_the_fit:
            self._share[number] = progress.step / progress.steps

    def _frames(self, shares: dict[int, float]) -> float:
        return sum(self._lengths.get(number, 0) * share for number, share in shares.items())

    def _of_one(self, number: int, progress: Progress) -> str:
        rate = progress.step / max(progress.seconds, 1e-9)
        if progress.phase is Phase.TRIAL:
            left = ""
        elif progress.phase is Phase.COARSE:
            each = progress.seconds / progress.step
            left = time_left(each * (progress.steps - progress.step), " of the sketch")
        elif progress.attempt or not self._lengths:
            seconds = self._time.seconds_of_one(number, self._share[number])
            left = time_left(seconds, " of this fit")
        else:
            left = time_left(self._time.seconds(self._share, at_work=1))
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
        left = time_left(self._time.seconds(self._share, at_work=len(running)))
        return (
            f"{done} of {len(self._lengths)} segments done, {len(running)} at work  "
            f"{100 * share:5.1f} %  {rate:.1f} steps/s  {quality:.2f} dB{left}"
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
    """Prints what --dry-run found out; `is_guess`: the size is not what was asked for."""
    count = prediction.segments
    size = f"{'about' if is_guess else 'at most'} {prediction.bytes or 0:,.0f} bytes"
    if prediction.bytes is None:
        size = "what the quality takes, which the trial fits of the encode find out"
    click.echo(
        f"{prediction.frames} frames in {count} segment{'s' * (count > 1)}\n"
        f"network: {prediction.weights:,} weights, "
        f"{prediction.macs_per_pixel / 1000:.1f} kMAC per pixel\n"
        f"size: {size}\n"
        f"time: about {duration(prediction.seconds)}"
    )


def time_left(seconds: float | None, of: str = "") -> str:
    """The end of a line of progress; empty if nobody can tell."""
    return "" if seconds is None else f"  {duration(seconds)} left{of}"


def duration(seconds: float) -> str:
    """Seconds in words: "7 s", "2:05 min", "1:30 h"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"
