"""See tools/first_numbers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

from activation_cost import measure
from reference import BIKES_320, BUNNY_320, ROOT, read_clip, x265_at

from hnervcodec import Decoder
from hnervcodec.video import Y4mSink

CLIPS = ROOT / "clips"
RESULTS = ROOT / "tools/results/first_numbers.md"


@dataclass(frozen=True)
class Row:
    clip: str
    filters: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...]


ROWS = {
    "carphone": Row("carphone_pristine.mp4", (), ("--bpp", "0.15")),
    "carphone-low": Row("carphone_pristine.mp4", (), ("--bpp", "0.05")),
    "bunny320": Row("bigbuckbunny.mp4", BUNNY_320, ("--size", "70k")),
    "bikes320": Row("bikes.mp4", BIKES_320, ("--bpp", "0.08", "--preset", "fast")),
    "bunny720": Row("bigbuckbunny.mp4", (), ("--bpp", "0.05", "--preset", "ultrafast")),
}
HEAD = (
    "| row | hnv encode | bytes | bpp | of target | PSNR Y / average, dB | encode | peak memory "
    "| decode frames/s | 8-bit activations cost | x265 slow: bytes, PSNR Y / average |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def run(name: str, row: Row) -> str:
    path = CLIPS / row.clip
    header, source = read_clip(path, row.filters)
    if row.filters:  # hnv reads files: give it the filtered frames losslessly
        path = CLIPS / f"{name}.y4m"
        with open(path, "wb") as file:
            sink = Y4mSink(file, header)
            for n, planes in enumerate(source):
                sink.write(n, planes)
            sink.close()
    coded = CLIPS / f"{name}.hnv"
    command = ["hnv", "encode", str(path), "-o", str(coded), *row.arguments, "-y"]
    print("$", " ".join(command), flush=True)
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "hnervcodec", *command[1:]])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    if status:
        sys.exit(f"{name} failed")
    size, pixels = coded.stat().st_size, len(source) * header.width * header.height
    bpp = 8 * size / pixels
    asked = float(row.arguments[1].replace("k", "e3"))
    target = asked if "--size" in row.arguments else asked * pixels / 8
    with Decoder(coded) as decoder:
        decoder[0]
        start = time.monotonic()
        for _ in decoder.frames(range(len(decoder))):
            pass
        rate = len(decoder) / (time.monotonic() - start)
    ours, floating = measure(coded, source)
    anchor = x265_at(header, source, size)
    theirs = anchor.error
    return (
        f"| {name}, {header.width}x{header.height}, {len(source)} frames "
        f"| `{' '.join(row.arguments)}` "
        f"| {size:,} | {bpp:.4f} | {100 * size / target:.1f} % "
        f"| {ours.per_plane[0]:.2f} / {ours.average:.2f} | {seconds:.0f} s "
        f"| {usage.ru_maxrss / 2**20:.2f} GiB | {rate:.1f} "
        f"| {floating.average - ours.average:+.3f} dB "
        f"| {anchor.bytes:,}, {theirs.per_plane[0]:.2f} / {theirs.average:.2f} |"
    )


def main() -> None:
    done = RESULTS.read_text() if RESULTS.exists() else ""
    lines = dict(
        (line.split()[1].rstrip(","), line) for line in done.splitlines() if "frames |" in line
    )
    for name in sys.argv[1:] or ROWS:
        lines[name] = run(name, ROWS[name])
        print(lines[name], flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        rows = "\n".join(lines[key] for key in ROWS if key in lines)
        RESULTS.write_text(f"Made by `tools/first_numbers` on two cores.\n\n{HEAD}{rows}\n")


main()
