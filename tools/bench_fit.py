"""See tools/bench_fit."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

# `measure` runs with another version of the codec too, which may have other modules.
MASKS = {
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "all that this processor has": {},
}
BITS_PER_PIXEL = 0.06
WHOLE = {"carphone": "0.05", "bunny320": "0.06", "bikes320": "0.05"}  # clips, bits per pixel
PHASES = ("float", "quantized", "rounded activations")
PROFILED_STEPS = 3


@dataclass(frozen=True)
class Case:
    """Frames to fit."""

    name: str
    filters: tuple[tuple[str, str], ...]
    frames: int
    updates_per_frame: float


CASES = (
    Case("bunny320", (("crop", "1280:640"), ("scale", "320:160:flags=lanczos")), 132, 3),
    Case("bunny1280", (), 12, 3),
)


# ---------------------------------------------------------------- in a process of its own


def measure(task_file: Path) -> dict[str, Any]:
    """Seconds of the steps of each phase, processor's and all, and what came out."""
    import numpy as np
    import torch

    task = np.load(task_file)
    plain = json.loads(str(task["plain"]))
    torch.set_num_threads(plain["threads"])
    fit, arguments, boundaries = prepared(task["frames"], plain)
    seen = [(time.perf_counter(), time.process_time())]
    last: list[Any] = []

    def report(progress: Any) -> None:
        seen.append((time.perf_counter(), time.process_time()))
        last[:] = [progress.psnr, progress.bytes]

    fit(*arguments, report=report)
    times: dict[str, list[float]] = {}
    for phase, start, end in zip(PHASES, boundaries[:-1], boundaries[1:], strict=True):
        # The first steps of a phase fit its quantizers and fill caches.
        first = seen[min(start + 2, end - 1)]
        count = end - min(start + 2, end - 1)
        times[phase] = [(seen[end][n] - first[n]) / count for n in (0, 1)]
    return {"times": times, "psnr": last[0], "bytes": last[1]}


def prepared(frames: Any, plain: dict[str, Any]) -> tuple[Any, tuple[Any, ...], list[int]]:
    """(fit, its arguments, the steps between which its phases are) of this version or 535925a."""
    from fractions import Fraction

    import torch

    stages, device = plain["stages"], torch.device("cpu")
    size = plain["width"], plain["height"], 1, Fraction(25)
    try:
        from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
        from hnervcodec.bitstream.headers import VideoHeader
        from hnervcodec.fitting.fit import fit
        from hnervcodec.fitting.presets import FitConfig
        from hnervcodec.fitting.training import FitTask, Schedule
    except ImportError:
        before: tuple[Any, tuple[Any, ...], list[int]] = prepared_at_535925a(frames, plain)
        return before
    video = VideoHeader(*size)
    shape = tuple(StageConfig(*stage) for stage in stages)
    model = ModelConfig(plain["embed"], plain["stem"], shape, plain["head"])
    config = FitConfig(plain["updates_per_frame"], batch_frames=4)  # as at 535925a
    if hasattr(config, "coarse"):
        config = replace(config, coarse=0.0)
    task = FitTask(frames, video, model, config, plain["budget"], device)
    schedule = Schedule.of(task)
    steps = [0, schedule.quantize_at, schedule.round_at, schedule.steps]
    return fit, (task,), steps


def prepared_at_535925a(frames: Any, plain: dict[str, Any]) -> Any:
    """The same for that commit; it thought that AVX2 had bfloat16 where it is only masked."""
    from fractions import Fraction
    from functools import partial

    import torch
    from hnervcodec.architecture import ModelConfig, StageConfig  # type: ignore[import-not-found]
    from hnervcodec.syntax import VideoHeader  # type: ignore[import-not-found]

    from hnervcodec import fitting

    old: Any = fitting
    if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":
        old.bf16_pays = lambda device: False
    video = VideoHeader(plain["width"], plain["height"], 1, Fraction(25))
    shape = tuple(StageConfig(*stage) for stage in plain["stages"])
    model = ModelConfig(plain["embed"], plain["stem"], shape, plain["head"])
    config, device = old.FitConfig(plain["updates_per_frame"]), torch.device("cpu")
    given = frames, video, model, config, plain["budget"]
    one = old._Fit(frames, None, *given[1:], None, device, print)
    return partial(old.fit, device=device), given, [0, one.quantize_at, one.round_at, one.steps]


# ---------------------------------------------------------------- the table


def write_task(case: Case, threads: int, path: Path) -> str:
    """The case's frames and network, for `measure`; what to say of them."""
    import numpy as np
    from reference import ROOT, read_clip

    from hnervcodec.bitstream.architecture import macs_per_frame, weight_count
    from hnervcodec.bitstream.levels import LEVELS
    from hnervcodec.fitting.model_choice import choose_model
    from hnervcodec.fitting.presets import PRESETS
    from hnervcodec.planes import pack

    video, frames = read_clip(ROOT / "clips/bigbuckbunny.mp4", case.filters, case.frames)
    budget = round(BITS_PER_PIXEL * 132 * video.width * video.height / 8)
    model = choose_model(video, 132, budget, PRESETS["faster"].limits, LEVELS[max(LEVELS)])
    height, width = (n * model.stride for n in model.embed_size(video.width, video.height))
    plain = {
        "threads": threads,
        "width": video.width,
        "height": video.height,
        "embed": model.embed_channels,
        "stem": model.stem_channels,
        "stages": [list(asdict(stage).values()) for stage in model.stages],
        "head": model.head_kernel,
        "updates_per_frame": case.updates_per_frame,
        "budget": budget,
    }
    packed = np.stack([pack(planes, 1, height, width) for planes in frames])
    np.savez(path, frames=packed, plain=json.dumps(plain))
    specs = video.layers(model)
    return (
        f"{video.width}x{video.height}, {len(frames)} frames, {weight_count(specs):,} weights, "
        f"{macs_per_frame(specs) / 1e9:.2f} GMAC per frame"
    )


def run(root: Path, mask: dict[str, str], task: Path, what: str) -> Any:
    """What `measure` or `profile` says of the version at `root`."""
    environment = {**os.environ, **mask, "PYTHONPATH": str(root)}
    command = [sys.executable, str(Path(__file__).resolve()), what, str(task)]
    made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if made.returncode:
        sys.exit(f"bench_fit: {what} failed with the version at {root}")
    return json.loads(made.stdout.splitlines()[-1])


def profile(task_file: Path) -> dict[str, Any]:
    """Where the time of a step goes, with one thread: milliseconds by kind, in each phase."""
    import numpy as np
    import torch
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    from hnervcodec.fitting.float_phase import FloatPhase
    from hnervcodec.fitting.quantized_phase import QuantizedPhase

    task = np.load(task_file)
    plain = json.loads(str(task["plain"]))
    torch.set_num_threads(1)
    _, (fit_task,), _ = prepared(task["frames"][:8], plain)
    phase: FloatPhase | QuantizedPhase = FloatPhase(fit_task)
    index = torch.arange(phase.training.schedule.batch_frames)
    tables: dict[str, Any] = {}
    for name in PHASES:
        phase.train(index, 1)
        with profiled(activities=[ProfilerActivity.CPU]) as seen:
            begun = time.process_time()
            for _ in range(PROFILED_STEPS):
                phase.train(index, 1)
            whole = time.process_time() - begun
        rows = {
            event.key: event.self_cpu_time_total / 1e3 / PROFILED_STEPS
            for event in seen.key_averages()
        }
        largest = sorted(rows, key=lambda key: -rows[key])[:8]
        tables[name] = {"all": whole * 1e3 / PROFILED_STEPS} | {key: rows[key] for key in largest}
        if isinstance(phase, FloatPhase):
            phase = phase.quantized()
        else:
            phase.round_activations()
    return tables


def compare(case: Case, threads: int, versions: dict[str, Path], rounds: int) -> list[str]:
    """Lines of the report about one case."""
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        lines = ["", f"## {case.name}: {write_task(case, threads, task)}"]
        for mask_name, mask in MASKS.items():
            made: dict[str, list[Any]] = {name: [] for name in versions}
            for _ in range(rounds):
                for name, root in versions.items():
                    made[name].append(run(root, mask, task, "measure"))
                    print(case.name, mask_name, name, made[name][-1], file=sys.stderr, flush=True)
            lines += [
                "",
                f"### {mask_name}",
                "",
                "Steps per second, and processor time of a step:",
                "",
            ]
            lines.append("| version | " + " | ".join(PHASES) + " | whole fit | PSNR | bytes |")
            lines.append("|---" * (len(PHASES) + 4) + "|")
            for name, results in made.items():
                cells, whole = [], [0.0] * len(results)
                for phase, share in zip(PHASES, (0.5, 0.35, 0.15), strict=True):
                    wall = median(r["times"][phase][0] for r in results)
                    busy = median(r["times"][phase][1] for r in results)
                    cells.append(f"{1 / wall:.1f} ({1e3 * busy:.0f} ms)")
                    whole = [
                        w + share * r["times"][phase][0]
                        for w, r in zip(whole, results, strict=True)
                    ]
                last = results[-1]
                lines.append(
                    f"| {name} | {' | '.join(cells)} | {1 / median(whole):.1f} | "
                    f"{last['psnr']:.2f} dB | {last['bytes']:,.0f} |"
                )
            tables = run(versions["this"], mask, task, "profile")
            lines += ["", "Where the time of a step goes, one thread, ms:", ""]
            for phase, rows in tables.items():
                told = ", ".join(f"{key} {value:.1f}" for key, value in rows.items())
                lines.append(f"* {phase}: {told}")
    return lines


def compare_encodes(threads: int, versions: dict[str, Path]) -> list[str]:
    """Lines of the report about whole encodes of clips at `faster`, each command in turn."""
    from reference import CLIPS, ROOT, read_clip, write_y4m

    lines = ["", "## `hnv encode --preset faster`, the whole command", ""]
    lines += ["Seconds, processor seconds, average PSNR of clips at so many bits per pixel:", ""]
    lines += ["| clip | " + " | ".join(versions) + " |", "|---" * (len(versions) + 1) + "|"]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "source.y4m", Path(folder) / "made.hnv"
        for clip, rate in WHOLE.items():
            file, filters = CLIPS[clip]
            write_y4m(source, *read_clip(ROOT / "clips" / file, filters))
            cells = []
            for name, root in versions.items():
                command = [
                    "encode",
                    str(source),
                    "-o",
                    str(made),
                    "-y",
                    "--preset",
                    "faster",
                    "--bpp",
                    rate,
                ]
                command += ["--threads", str(threads)]
                if name == "this":
                    command += ["--tune", "psnr"]  # as the others are
                environment = {**os.environ, "PYTHONPATH": str(root)}
                begun, before = time.perf_counter(), os.times()
                said = subprocess.run(
                    [sys.executable, "-m", "hnervcodec", *command],
                    env=environment,
                    cwd=root,  # which comes before PYTHONPATH
                    stderr=subprocess.PIPE,
                    text=True,
                    check=True,
                ).stderr
                after = os.times()
                busy = after.children_user + after.children_system
                busy -= before.children_user + before.children_system
                psnr = said.rpartition("PSNR ")[2].split()[0]
                cells.append(f"{time.perf_counter() - begun:.1f} s, {busy:.1f} s, {psnr} dB")
                print(clip, name, cells[-1], file=sys.stderr, flush=True)
            lines.append(f"| {clip}, {rate} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    from reference import ROOT

    from hnervcodec.system.devices import processor_name, processors

    parser = argparse.ArgumentParser(prog="tools/bench_fit")
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--rounds", type=int, default=2, help="fits of each version")
    parser.add_argument("--threads", type=int, default=processors())
    parser.add_argument("--case", choices=[*(case.name for case in CASES), "encodes"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        versions = {"this": ROOT}
        if options.against:
            versions[options.against] = Path(folder) / "other"
            command = [
                "git",
                "worktree",
                "add",
                "-f",
                str(versions[options.against]),
                options.against,
            ]
            subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
        try:
            lines = [
                "# Speed of a fit, measured",
                "",
                f"Made by `tools/bench_fit` on {processors()} cores of {processor_name()}, "
                f"{options.threads} threads. "
                f"The median of {options.rounds} fits of each version, in turns.",
                "AVX2: the rest is masked, by ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY; torch's "
                "Muon, in 535925a, then multiplies bfloat16 in slow emulation.",
            ]
            for case in CASES:
                if case.name == (options.case or case.name):
                    lines += compare(case, options.threads, versions, options.rounds)
            if options.case in (None, "encodes"):
                lines += compare_encodes(options.threads, versions)
        finally:
            if options.against:
                command = ["git", "worktree", "remove", "--force", str(versions[options.against])]
                subprocess.run(command, cwd=ROOT, capture_output=True)
    print("\n".join(lines))
    if not options.case:
        (ROOT / "tools/results/fit_speed.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
    elif sys.argv[1:2] == ["profile"]:
        print(json.dumps(profile(Path(sys.argv[2]))))
    else:
        main()
