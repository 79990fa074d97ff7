"""See tools/bench_speed. The networks have random levels: they decode as fast as fitted ones."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from family import HNeRVDecoder
from reference import CLIPS, ROOT, Filters, read_clip
from torch import Tensor
from vectors import fitted_like, make_file, random_segment

from hnervcodec.benchmark import other_codecs
from hnervcodec.bitstream import levels, segment
from hnervcodec.bitstream.architecture import ModelConfig, macs_per_frame, weight_count
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.segment import QuantizedSegment
from hnervcodec.fitting.float_phase import FloatPhase
from hnervcodec.fitting.model_choice import choose_model
from hnervcodec.fitting.presets import PRESETS
from hnervcodec.fitting.training import FitTask
from hnervcodec.planes import Planes, pack
from hnervcodec.synthesis import native, native_library
from hnervcodec.synthesis.network import Synthesis
from hnervcodec.system import kernels
from hnervcodec.system.devices import processor_name, processors

FRAMES = 132  # of the clip, and of the networks' segments
REFERENCE_MACS = 28.8e9  # of HNeRV's 1.5 M network, per frame of 1280x640


@dataclass(frozen=True)
class Case:
    """A network that the encoder would choose for Big Buck Bunny."""

    name: str
    filters: Filters
    bits_per_pixel: float
    preset: str = "medium"
    heavy: bool = False  # widened to the arithmetic of HNeRV's


CASES = (
    Case("640x360 at 0.05 bpp", (("scale", "640:360:flags=lanczos"),), 0.05),
    Case("1280x640 at 0.02 bpp", CLIPS["bunny1280"][1], 0.02),
    Case("1280x640, as heavy as HNeRV's", CLIPS["bunny1280"][1], 0.02, heavy=True),
    Case("1280x720 at 0.05 bpp", (), 0.05),
)


def seconds(function: Callable[[], object], least: float = 1.5) -> float:
    """Of the median run, after one that is not counted."""
    function()
    times: list[float] = []
    while len(times) < 3 or sum(times) < least:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def ceilings() -> dict[str, float]:
    """GMAC/s of torch's product of two matrices [2048, 2048]."""
    n = 2048
    left, right = torch.randint(-127, 127, (2, n, n), dtype=torch.int8)
    products: dict[str, Callable[[], object]] = {"int8": lambda: torch._int_mm(left, right)}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = left.to(dtype), right.to(dtype)
        products[name] = lambda a=a, b=b: a @ b  # type: ignore[misc]
    return {f"{name}, GMAC/s": n**3 / seconds(product) / 1e9 for name, product in products.items()}


# ---------------------------------------------------------------- decoding


# Run from a small process, as a child's peak counts what its parent held when it forked.
WATCH = """
import os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def process(*arguments: object) -> tuple[float, float]:
    """(seconds, peak MiB) of a whole `hnv` process."""
    command = [sys.executable, "-m", "hnervcodec", *map(str, arguments)]
    run = subprocess.run(
        [sys.executable, "-c", WATCH, *command], cwd=ROOT, capture_output=True, text=True
    )
    if run.returncode:
        sys.exit(f"bench_speed: hnv {' '.join(command[3:])} failed: {run.stderr}")
    elapsed, peak = run.stdout.split()
    return float(elapsed), float(peak)


@contextlib.contextmanager
def convolutions_only() -> Iterator[None]:
    """native.c without what follows a convolution; its samples are rubbish."""
    flags = (*kernels.FLAGS, "-DCONVOLUTIONS_ONLY")
    with (
        mock.patch.object(kernels, "FLAGS", flags),
        mock.patch.object(native, "_is_exact", lambda lib: True),
    ):
        lib = native.choice.__wrapped__().library
    with mock.patch.object(native, "library", lambda: lib):
        yield


@contextlib.contextmanager
def one_kernel(name: str) -> Iterator[None]:
    """native.c as another processor would have it."""
    with mock.patch.dict(os.environ, {native_library.KERNEL_VARIABLE: name}):
        lib = native.choice.__wrapped__().library
    with mock.patch.object(native, "library", lambda: lib):
        yield


def synthesis_rate(network: Synthesis) -> float:
    """Frames per second."""
    frames = range(network.batch_size)
    return len(frames) / seconds(lambda: network.packed(frames))


def synthesis_rates(part: QuantizedSegment, video: VideoHeader) -> dict[str, float]:
    """By arithmetic; torch's are those of a machine without a compiler."""
    fastest = Synthesis(part, video)
    facts = {"a single frame, s": seconds(lambda: fastest.packed([100]))}
    for path in dict.fromkeys((*fastest.paths.values(), "int8", "float32")):
        rate = synthesis_rate(Synthesis(part, video, path=path))
        facts[f"synthesis {path}, frames/s"] = rate
    for kernel in native_library.candidates():
        if not kernels.lacking(kernel):
            with one_kernel(kernel.name):
                rate = synthesis_rate(Synthesis(part, video, path="native"))
            facts[f"synthesis native {kernel.name}, frames/s"] = rate
    return facts


def decoding(video: VideoHeader, model: ModelConfig) -> dict[str, float]:
    specs = video.layers(model)
    gmacs = macs_per_frame(specs) / 1e9
    facts: dict[str, float] = {
        "weights": weight_count(specs),
        "GMAC per frame": gmacs,
        "kMAC per pixel": 1e6 * gmacs / video.width / video.height,
    }
    level = levels.lowest_level(video.width, video.height, weight_count(specs))
    few = fitted_like(random_segment(video, 4, model=model), video)
    part = replace(
        few,
        embedding=np.tile(few.embedding, (FRAMES // 4, 1, 1, 1)),
        frame_crcs=np.tile(few.frame_crcs, FRAMES // 4),
    )
    payload = segment.write(part)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.hnv"
        path.write_bytes(make_file(video, [part], level.number))
        decode = "decode", path, "-q", "-y", "-o", "/dev/null", "--format", "y4m"
        whole, facts["process: peak MiB"] = process(*decode)
        facts["process: all frames to Y4M, frames/s"] = FRAMES / whole
        cold = sorted(process(*decode, "--frames", 100)[0] for _ in range(3))[1]
        facts["process: one frame, s"] = cold
    facts["load a segment, s"] = seconds(
        lambda: Synthesis(segment.read(payload, video, level), video)
    )
    facts |= synthesis_rates(part, video)
    if native.library():
        with convolutions_only():
            rate = synthesis_rate(Synthesis(part, video, path="native"))
        facts["convolutions alone, frames/s"] = rate
        facts["convolutions alone, GMAC/s"] = rate * gmacs
    return facts


# ---------------------------------------------------------------- fitting


def fitting_step(
    video: VideoHeader, frames: list[Planes], case: Case, model: ModelConfig
) -> dict[str, float]:
    """Seconds of an optimizer step per frame of its batch, in each phase of a fit."""
    height, width = (n * model.stride for n in model.embed_size(video.width, video.height))
    packed = np.stack([pack(planes, video.chroma_format, height, width) for planes in frames[:8]])
    config, device = PRESETS[case.preset].fit, torch.device("cpu")
    float_phase = FloatPhase(FitTask(packed, video, model, config, budget(video, case), device))
    training = float_phase.training
    index = torch.arange(training.schedule.batch_frames)

    operands = training.synthesis.operands()

    def forward() -> Tensor:
        target = training.batch(index)
        with training.autocast():
            decoded = training.decoder(training.embedding[index], operands)
        return training.loss.measure(decoded, target)[0]

    def optimize() -> None:
        for optimizer in training.optimizers:
            optimizer.step()

    facts = {"float step, s": seconds(lambda: float_phase.train(index, 1))}
    data, both = seconds(lambda: training.batch(index)), seconds(forward)
    facts["of it data, s"], facts["of it forward, s"] = data, both - data
    facts["of it optimizers, s"] = seconds(optimize)
    facts["of it backward, s"] = facts["float step, s"] - both - facts["of it optimizers, s"]
    quantized_phase = float_phase.quantized()
    facts["quantized step, s"] = seconds(lambda: quantized_phase.train(index, 1))
    facts["quantized step with the rate, s"] = seconds(lambda: quantized_phase.train(index, 0))
    quantized_phase.round_activations()
    facts["step with rounded activations, s"] = seconds(lambda: quantized_phase.train(index, 1))
    return {"frames of a batch": len(index)} | {
        name: value / len(index) for name, value in facts.items()
    }


def paper() -> dict[str, float]:
    """HNeRV's network in eager float32 at 1280x640, without its encoder."""
    network, embedding = HNeRVDecoder(70, strides=(5, 4, 4, 2, 2)), torch.randn(1, 16, 2, 4)
    target = torch.rand(1, 3, 640, 1280)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step() -> None:
        adam.zero_grad()
        F.mse_loss(network(embedding), target).backward()  # type: ignore[no-untyped-call]
        adam.step()

    with torch.inference_mode():
        forward = seconds(lambda: network(embedding))
    weights = sum(parameter.numel() for parameter in network.parameters())
    return {"weights": weights, "frames/s": 1 / forward, "step, s": seconds(step)}


# ---------------------------------------------------------------- the table


def budget(video: VideoHeader, case: Case) -> int:
    return round(case.bits_per_pixel * FRAMES * video.width * video.height / 8)


def model_of(video: VideoHeader, case: Case) -> ModelConfig:
    level = levels.LEVELS[max(levels.LEVELS)]
    limits = PRESETS[case.preset].limits
    model = choose_model(video, FRAMES, budget(video, case), limits, level)
    while case.heavy and macs_per_frame(video.layers(model)) < REFERENCE_MACS:
        stages = tuple(replace(stage, channels=stage.channels + 8) for stage in model.stages)
        model = replace(model, stages=stages)
    return model


def measure(case: Case) -> dict[str, float]:
    video, frames = read_clip(ROOT / "clips/bigbuckbunny.mp4", case.filters)
    model = model_of(video, case)
    facts = decoding(video, model)
    if case.heavy:
        return facts
    facts |= {f"fit: {k}": v for k, v in fitting_step(video, frames, case, model).items()}
    for codec in ("libx264", "libx265"):
        anchor = other_codecs.code(codec, video, frames, {"crf": "33", "preset": "medium"})
        facts[f"{codec} decodes, frames/s"] = len(frames) / anchor.decode_seconds
    return facts


def main() -> None:
    torch.set_num_threads(processors())
    machine = f"{processors()} cores of {processor_name()}, torch {torch.__version__}"
    results: dict[str, dict[str, float]] = {
        "products of matrices": ceilings(),
        "HNeRV's network, eager float32, 1280x640": paper(),
    }
    for case in CASES:
        print(case.name, "...", file=sys.stderr, flush=True)
        results[case.name] = measure(case)
    lines = [
        "# Speed, measured",
        "",
        f"Made by `tools/bench_speed` on {machine}, in one run.",
        "",
        "Networks as `hnv encode` would choose them for Big Buck Bunny, 132 frames, with random",
        "levels. Steps of the optimizer are per frame of its batch.",
    ]
    for section, facts in results.items():
        lines += ["", f"## {section}", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {shown(value)} |" for name, value in facts.items()]
    folder = ROOT / "tools/results"
    (folder / "speed.md").write_text("\n".join(lines) + "\n")
    everything: dict[str, Any] = {"machine": machine, **results}
    (folder / "speed.json").write_text(json.dumps(everything, indent=1) + "\n")
    print("\n".join(lines))


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
