"""`hnv encode` of many videos: which words mean that, and what it prints."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hnervcodec.commands.progress import duration, print_prediction, time_left
from hnervcodec.encoding.observer import ManyObserver
from hnervcodec.errors import PartialError, UsageError

if TYPE_CHECKING:
    from hnervcodec.encoding.file_input import Selection
    from hnervcodec.encoding.manifest import EncodedVideo
    from hnervcodec.encoding.session import EncodeOptions

INTERVALS = {True: 0.2, False: 10.0}  # seconds between lines, on a terminal and elsewhere


def is_many(sources: Sequence[str], output: str | None) -> bool:
    """Whether these words mean many videos, or one into a folder: a folder, a pattern that is no
    file, several names, or an output that ends with a slash."""
    if len(sources) > 1 or (output is not None and output.endswith(os.sep)):
        return True
    source = sources[0]
    is_pattern = any(letter in source for letter in "*?[") and "://" not in source
    return os.path.isdir(source) or (is_pattern and not os.path.exists(source))


def check_folder(output: str | None) -> None:
    """UsageError if `output` cannot be meant as a folder."""
    if output is None:
        raise UsageError("-o FOLDER is missing: where the .hnv files are to go")
    if output == "-" or (output.endswith(".hnv") and not os.path.isdir(output)):
        raise UsageError(f"several videos need a folder, not -o {output}")


def encode_many(
    sources: Sequence[str],
    output: str | None,
    options: EncodeOptions,
    selection: Selection,
    *,
    resume: bool,
    dry_run: bool,
    yes: bool,
    quiet: bool,
) -> None:
    """Encodes them, and prints progress and a line for each; PartialError if some have failed."""
    from hnervcodec.encoding.many import ManyEncode

    job = ManyEncode(sources, Path(output or "."), options, selection, ManyProgress(quiet))
    if dry_run:
        first, seconds = job.predict()
        click.echo("the first of the videos:")
        print_prediction(first, is_guess=True)
        click.echo(f"all {len(job)}: about {duration(seconds)}")
        return
    made = job.run(resume=resume, discard=yes)
    failed = [video for video in made if video.error]
    if not quiet:
        done = [video.record for video in made if video.record]
        click.echo(
            f"{output}: {len(done)} video{'s' * (len(done) != 1)}, "
            f"{sum(one.frames for one in done):,} frames in "
            f"{sum(one.bytes for one in done):,} bytes",
            err=True,
        )
    for video in failed:
        click.echo(f"failed: {video.error}", err=True)
    if failed:
        raise PartialError(f"{len(failed)} of {len(made)} videos failed")


class ManyProgress(ManyObserver):
    """One line for all videos that rewrites itself on a terminal, a line now and then elsewhere,
    and a line for each that is finished."""

    def __init__(self, quiet: bool):
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._last = time.monotonic()
        self._start: tuple[float, float] | None = None  # the first report: when, and what share
        self._work: dict[int, float] = {}
        self._shares: dict[int, float] = {}
        self._total = self._ended = self._failed = 0

    def looked_at(self, count: int, total: int) -> None:
        self._say(f"looking at the videos: {count} of {total}")

    def planned(self, work: dict[int, float], total: int) -> None:
        self._work, self._total = dict(work), total

    def progressed(self, number: int, share: float) -> None:
        self._shares[number] = max(share, self._shares.get(number, 0))
        done = sum(self._work[n] * share for n, share in self._shares.items() if n in self._work)
        share = done / max(sum(self._work.values()), 1)
        now = time.monotonic()
        self._start = self._start or (now, share)
        begun, before = self._start
        left = ""
        if share > before:
            left = time_left((now - begun) * (1 - share) / (share - before))
        failed = f", {self._failed} failed" if self._failed else ""
        self._say(f"{self._ended} of {self._total} videos done{failed}  {100 * share:5.1f} %{left}")

    def finished(self, number: int, video: EncodedVideo) -> None:
        if video.error:
            self._failed += 1
            self._work.pop(number, None)  # it took no time, and says nothing of that of others
            return  # it is listed at the end
        self._ended += 1
        self._shares[number] = 1.0
        if self._quiet or video.was_finished or not video.record:
            return
        made = video.record
        click.echo(
            f"{self._clear}{video.output}: {made.frames} frames in {made.bytes:,} bytes, "
            f"PSNR {made.psnr:.2f} dB",
            err=True,
        )
        for note in video.notes:
            click.echo(f"note: {video.source}: {note}", err=True)

    def _say(self, line: str) -> None:
        now = time.monotonic()
        if not self._quiet and now - self._last >= INTERVALS[self._terminal]:
            self._last = now
            click.echo(f"{self._clear}{line}", err=True, nl=not self._terminal)

    @property
    def _clear(self) -> str:
        return "\r\x1b[K" if self._terminal else ""
