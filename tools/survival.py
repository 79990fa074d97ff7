"""See tools/survival."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reference import CLIPS, ROOT, read_clip

from hnervcodec.benchmark.other_codecs import write_libav

KILLS = 10
OPTIONS = ("--bpp", "0.03", "--threads", "1", "-q")


def seconds_of(run: subprocess.Popen[bytes], limit: float | None = None) -> tuple[float, float]:
    """(wall, processor) seconds until the run ends, or is killed after `limit` of them."""
    start = time.monotonic()
    while limit is None or time.monotonic() - start < limit:
        if os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.05)
    else:
        run.kill()
    _, run.returncode, usage = os.wait4(run.pid, 0)
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        report = measure(Path(folder))
    (ROOT / "tools/results/survival.md").write_text(report)
    print(report)


def measure(folder: Path) -> str:
    """The page of results, from files in an empty folder."""
    source, alone, killed = (folder / name for name in ("in.mkv", "alone.hnv", "killed.hnv"))
    file, filters = CLIPS["bunny320"]
    header, frames = read_clip(ROOT / "clips" / file, filters)
    write_libav(source, header, frames, "ffv1", {}, "matroska")
    command = [sys.executable, "-m", "hnervcodec", "encode", str(source), *OPTIONS]

    undisturbed = seconds_of(subprocess.Popen([*command, "-o", str(alone)]))
    print(
        f"left alone: {undisturbed[0]:.0f} s, {undisturbed[1]:.0f} s of the processor", flush=True
    )
    random_ = random.Random(0)
    moments = sorted(random_.uniform(0, undisturbed[0]) for _ in range(KILLS))
    wall, spent, kills, before = 0.0, 0.0, 0, 0.0
    for moment in [*moments, None]:
        resume = ["--resume"] if kills else []
        run = subprocess.Popen([*command, *resume, "-o", str(killed)])
        limit = None if moment is None else moment - before
        before = moment or 0.0
        took = seconds_of(run, limit)
        wall, spent, kills = wall + took[0], spent + took[1], kills + (run.returncode != 0)
        print(f"run {kills}: {took[0]:.0f} s, exit {run.returncode}", flush=True)
        if run.returncode == 0:
            break
    same = alone.read_bytes() == killed.read_bytes()
    assert [path for path in folder.iterdir() if path.suffix == ".job"] == []
    extra = spent / undisturbed[1] - 1
    lines = [
        "# What ten kill -9 cost",
        "",
        f"Made by `tools/survival`: bunny 320x160, 132 frames, `hnv encode {' '.join(OPTIONS)}`, "
        "killed at random moments and resumed after each.",
        "",
        "| | seconds | of the processor |",
        "|---|---|---|",
        f"| left alone | {undisturbed[0]:.0f} | {undisturbed[1]:.0f} |",
        f"| {kills} kills, {kills + 1} runs | {wall:.0f} | {spent:.0f} |",
        "",
        f"The two files are {'the same' if same else 'NOT the same'}; extra work: "
        f"{100 * extra:.1f} %.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
