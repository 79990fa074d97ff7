"""See tools/bench_startup."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from vectors import fitted_like, make_file, make_video, random_segment

from hnervcodec.bitstream.architecture import ModelConfig, StageConfig, weight_count
from hnervcodec.bitstream.levels import lowest_level

ROOT = Path(__file__).resolve().parent.parent
SMALL_FILE = ROOT / "spec/vectors/valid/stride-7.hnv"
HNV = ("-m", "hnervcodec")
FRAMES = 132
# As `hnv encode --preset medium` chooses them for Big Buck Bunny at 0.06 and 0.05 bpp.
MODELS = {
    (320, 160): ModelConfig(
        16,
        22,
        tuple(
            StageConfig(*s) for s in ((5, 1, 22, 0), (2, 3, 22, 0), (2, 3, 16, 4), (2, 3, 16, 4))
        ),
        3,
    ),
    (1280, 720): ModelConfig(
        16,
        76,
        tuple(
            StageConfig(*s) for s in ((3, 1, 76, 0), (4, 3, 76, 0), (2, 3, 32, 2), (2, 3, 32, 2))
        ),
        3,
    ),
}
# Opens a file, decodes one frame of it, and does so again with the file closed in between.
COLD = """
import random, sys, time
from hnervcodec import Decoder
from hnervcodec.decoding.segment_cache import SEGMENTS
small, path, frames, runs = sys.argv[1:]
with Decoder(small) as decoder:
    decoder.get_planes_at(0)
for _ in range(int(runs)):
    SEGMENTS.clear()  # which outlives the decoder
    start = time.perf_counter(), time.process_time()
    with Decoder(path) as decoder:
        decoder.get_planes_at(random.randrange(int(frames)))
    print(time.perf_counter() - start[0], time.process_time() - start[1])
"""


def processor_seconds(command: list[str]) -> float:
    """User and system time of the command and of what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_files(folder: str) -> dict[str, Path]:
    """A file of one segment for each of `MODELS`, by its size in words."""
    paths = {}
    for (width, height), model in MODELS.items():
        video = make_video(width, height)
        one = fitted_like(random_segment(video, 1, model=model), video)
        part = replace(
            one,
            embedding=np.tile(one.embedding, (FRAMES, 1, 1, 1)),
            frame_crcs=np.tile(one.frame_crcs, FRAMES),
        )
        level = lowest_level(width, height, weight_count(video.layers(model)))
        path = Path(folder, f"{width}x{height}.hnv")
        path.write_bytes(make_file(video, [part], level.number))
        paths[path.stem] = path
    return paths


def cold_frames(path: Path, runs: int) -> list[list[float]]:
    """(seconds, processor seconds) of each of `runs` frames in one process."""
    command = [sys.executable, "-c", COLD, str(SMALL_FILE), str(path), str(FRAMES), str(runs)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return [[float(word) for word in line.split()] for line in run.stdout.splitlines()]


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(folder)
        one_frame = ("--frames", "0", "-y", "-o", f"{folder}/frame.y4m")
        commands = {
            "python -c pass": ("-c", "pass"),
            "python -c 'import numpy'": ("-c", "import numpy"),
            "python -c 'import hnervcodec'": ("-c", "import hnervcodec"),
            "hnv --version": (*HNV, "--version"),
            "hnv --help": (*HNV, "--help"),
            "hnv encode --help": (*HNV, "encode", "--help"),
            "hnv info": (*HNV, "info", str(SMALL_FILE)),
            "hnv verify": (*HNV, "verify", str(SMALL_FILE)),
            "hnv decode, one frame": (*HNV, "decode", str(SMALL_FILE), *one_frame),
            **{
                f"hnv decode {name} to {form}": (
                    *(*HNV, "decode", str(path), "--frames", "10", "-y"),
                    *("-o", f"{folder}/frame.{form}"),
                )
                for name, path in files.items()
                for form in ("y4m", "png")
            },
        }
        print(f"{'processor time, s':32} median     least")
        for name, words in commands.items():
            command = [sys.executable, *words]
            processor_seconds(command)  # writes bytecode, and compiles the native kernel
            times = [processor_seconds(command) for _ in range(runs)]
            print(f"{name:32} {median(times):6.3f}    {min(times):6.3f}", flush=True)
        print("\na cold frame, ms                 median     processor time")
        for name, path in files.items():
            wall, processor = zip(*cold_frames(path, runs), strict=True)
            print(f"{name:32} {1e3 * median(wall):6.1f}     {1e3 * median(processor):6.1f}")


if __name__ == "__main__":
    main()
