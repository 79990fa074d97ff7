"""See tools/bench_startup."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
SMALL_FILE = ROOT / "spec/vectors/valid/stride-7.hnv"
HNV = ("-m", "hnervcodec")


def processor_seconds(command: list[str]) -> float:
    """User and system time of the command and of what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder:
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
        }
        print(f"{'processor time, s':32} median     least")
        for name, words in commands.items():
            command = [sys.executable, *words]
            processor_seconds(command)  # writes bytecode, and compiles the native kernel
            times = [processor_seconds(command) for _ in range(runs)]
            print(f"{name:32} {median(times):6.3f}    {min(times):6.3f}", flush=True)


if __name__ == "__main__":
    main()
