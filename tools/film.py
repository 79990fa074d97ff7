"""See tools/film."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Thread

import matplotlib
from reference import ROOT, Filters, read_clip

from hnervcodec.benchmark.other_codecs import write_libav
from hnervcodec.planes import Planes

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIZE: Filters = (("scale", "320:180:flags=lanczos"), ("setsar", "1"))
CLIPS = ("bigbuckbunny.mp4", "carphone_pristine.mp4", "bikes.mp4")
FRAMES, SLICE = 15_000, 1536  # ten minutes at 25 frames/s; what is encoded of it
OPTIONS = ("--preset", "ultrafast", "--bpp", "0.03", "--segment", "128", "--threads", "1")
RESULTS = ROOT / "tools/results"


def make_film(path: Path) -> int:
    """Writes the film; returns how many parts it has."""
    read = [read_clip(ROOT / "clips" / name, SIZE) for name in CLIPS]
    header = replace(read[0][0], width=320, height=180)
    random_ = random.Random(0)
    film: list[Planes] = []
    parts, last = 0, -1
    while len(film) < FRAMES:
        which = random_.choice([n for n in range(len(CLIPS)) if n != last])
        frames = read[which][1]
        length = random_.randint(40, len(frames))
        start = random_.randint(0, len(frames) - length)
        film += frames[start : start + length]
        parts, last = parts + 1, which
    write_libav(path, header, film[:FRAMES], "libx264", {"crf": "18", "preset": "fast"})
    return parts


def resident(pid: int) -> float:
    """MiB that a process has in memory."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


def watch(arguments: list[str]) -> tuple[list[tuple[int, float]], str, float]:
    """Runs hnv; (segment at work, MiB) twice a second, its output, seconds."""
    start = time.monotonic()
    run = subprocess.Popen(
        [sys.executable, "-m", "hnervcodec", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []

    def listen() -> None:
        assert run.stdout is not None
        for line in run.stdout:
            said.append(line)
            print(line, end="", flush=True)

    listener = Thread(target=listen)
    listener.start()
    samples = []
    while run.poll() is None:
        at = [int(match[1]) for line in said if (match := re.match(r"segment (\d+)", line))]
        samples.append((at[-1] if at else 0, resident(run.pid)))
        time.sleep(0.5)
    listener.join()
    assert run.returncode == 0, said
    return samples, "".join(said), time.monotonic() - start


with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
    film, coded = Path(scratch) / "film.mp4", Path(scratch) / "film.hnv"
    parts = make_film(film)
    predicted, projection, scan_seconds = watch(["encode", str(film), *OPTIONS, "--dry-run"])
    samples, said, seconds = watch(
        ["encode", str(film), *OPTIONS, "--limit", str(SLICE), "-o", str(coded)]
    )
    size = coded.stat().st_size

by_segment: dict[int, list[float]] = {}
for number, mebibytes in samples:
    by_segment.setdefault(number, []).append(mebibytes)
lines = [
    "# A film of ten minutes",
    "",
    f"Made by `tools/film`: {FRAMES} frames of 320x180, {parts} parts of the real clips in varied "
    f"order. `hnv encode {' '.join(OPTIONS)}`.",
    "",
    f"`--dry-run` looks at all of it in {scan_seconds:.0f} s, in at most "
    f"{max(m for _, m in predicted):.0f} MiB, and says:",
    "",
    *(f"    {line}" for line in projection.splitlines() if "frames in" in line or ": " in line),
    "",
    f"Then `--limit {SLICE}`: {size:,} bytes, {seconds:.0f} s. Memory while each segment was "
    "fitted:",
    "",
    "| segment | MiB, mean | MiB, most |",
    "|---|---|---|",
    *(
        f"| {'scan' if n == 0 else n} | {sum(m) / len(m):.0f} | {max(m):.0f} |"
        for n, m in sorted(by_segment.items())
    ),
    "",
    "![Memory over time](film.png)",
]
(RESULTS / "film.md").write_text("\n".join(lines) + "\n")
figure, axes = plt.subplots(figsize=(8, 3.2), dpi=110)
axes.plot([n / 2 for n in range(len(samples))], [m for _, m in samples], color="black")
for n, (before, after) in enumerate(pairwise(samples)):
    if before[0] != after[0]:
        axes.axvline(n / 2, color="tab:blue", alpha=0.3)
axes.set(xlabel="seconds; a line where a segment begins", ylabel="MiB in memory", ylim=(0, None))
axes.grid(alpha=0.3)
figure.tight_layout()
figure.savefig(RESULTS / "film.png")
print("\n".join(lines))
