"""See tools/gpu. One job after the other; each is measured once for a machine, and kept."""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import family
import numpy as np
import torch
from reference import CLIPS, EXCERPT, ROOT, read_clip, rgb_psnr, write_y4m
from torch import Tensor, nn
from vectors import random_segment

from hnervcodec.bitstream import levels
from hnervcodec.bitstream.architecture import ModelConfig, macs_per_frame, weight_count
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.encoding import session
from hnervcodec.encoding.dispatch import Dispatch
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.encoding.observer import Observer
from hnervcodec.encoding.rate import Rate
from hnervcodec.fitting.float_phase import FloatPhase
from hnervcodec.fitting.model_choice import choose_model
from hnervcodec.fitting.presets import PRESETS
from hnervcodec.fitting.progress import Progress
from hnervcodec.fitting.training import FitTask
from hnervcodec.media.frames import to_frame
from hnervcodec.planes import Planes, pack
from hnervcodec.synthesis import torch_kernels
from hnervcodec.system.atomic_files import open_complete_or_absent
from hnervcodec.system.devices import processors

UNFINISHED = 75  # exit code, as sysexits.h has it for "try again"
BATCHES = (1, 8, 64)
PAPER_BATCH = 2  # frames, of the HNeRV repository
PAPER_STRIDES = {False: (5, 4, 4, 2, 2), True: (4, 2)}  # of the paper at 1280x640; if tiny
KEEP_EVERY = 60.0  # seconds between two checkpoints of a family's fit
TITLES = {
    "exact": "All valid vectors through the device",
    "decode": "Frames per second, with the copy to the processor's memory",
    "fit": "Seconds of a fit's step",
    "paper": "HNeRV as its paper has it; RGB, the mean of the frames' PSNRs",
    "hnv": "hnv at a byte for each of these parameters",
}
Facts = dict[str, Any]


class OutOfTime(Exception):
    """The rest is for the next call."""


@dataclass(frozen=True)
class Run:
    """A call of this tool. deadline: by time.monotonic(); tiny: only whether everything runs."""

    device: torch.device
    work: Path
    deadline: float
    tiny: bool

    def check(self) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, function: Callable[[], object], least: float = 1.0) -> float:
        """Of the median call, after one that is not counted."""
        times: list[float] = []
        function()
        self.synchronize()
        while len(times) < 3 or sum(times) < (0 if self.tiny else least):
            start = time.perf_counter()
            function()
            self.synchronize()
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]

    @property
    def machine(self) -> str:
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        else:
            name = f"{platform.machine()} processor"
        tiny = ", tiny" if self.tiny else ""
        return f"{name}, torch {torch.__version__}, {processors()} cores{tiny}"


@cache
def clip(tiny: bool) -> tuple[VideoHeader, list[Planes]]:
    if tiny:
        return read_clip(EXCERPT, (("scale", "48:32"),), limit=3)
    file, filters = CLIPS["bunny1280"]
    if not (ROOT / "clips" / file).exists():
        sys.exit(f"gpu: there is no clips/{file}: tools/clips brings it")
    return read_clip(ROOT / "clips" / file, filters)


# ---------------------------------------------------------------- exactness and speed


def exact(run: Run) -> Facts:
    """Every frame's checksum, by each arithmetic that the device has."""
    vectors = sorted((ROOT / "spec/vectors/valid").glob("*.hnv"))
    vectors = vectors[:4] if run.tiny else vectors
    frames, used = 0, dict[str, int]()
    for path in vectors:
        run.check()
        for arithmetic in ("float32", "float64"):
            if arithmetic == "float64" and run.device.type == "mps":
                continue
            with Decoder(path, path=arithmetic, device=str(run.device)) as decoder:
                for index, _ in decoder.frames(range(len(decoder))):  # which checks them
                    frames += 1
                    if index == 0:
                        for kind in set(decoder.arithmetic(0).values()):
                            used[kind] = used.get(kind, 0) + 1
    return {"vectors": len(vectors), "frames": frames, "files by arithmetic": used} | refused(run)


def refused(run: Run) -> Facts:
    """Whether the known-answer test finds out what torch would choose if it were let."""
    if run.device.type != "cuda":
        return {}
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-8191, 8192, (64, 64, 3, 3), generator=generator, dtype=torch.int32)
    zeros = torch.zeros(64, dtype=torch.int64)
    operands = torch_kernels._Operands(weight.to(run.device), zeros.to(run.device), 8)
    found = {}
    for name, tf32 in (("cuDNN as it comes, without TF32", False), ("cuDNN with TF32", True)):
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
            is_exact = torch_kernels._is_exact("float32", operands, (64, 64))
        found[name] = "exact" if is_exact else "refused by the known-answer test"
    return found


def network(run: Run) -> tuple[VideoHeader, ModelConfig, int]:
    """What `medium` chooses at 0.02 bits per pixel, and its budget in bytes."""
    video, frames = clip(run.tiny)
    bits = 4 if run.tiny else 0.02
    budget = round(bits * len(frames) * video.width * video.height / 8)
    level = levels.LEVELS[max(levels.LEVELS)]
    return video, choose_model(video, len(frames), budget, PRESETS["medium"].limits, level), budget


def decode(run: Run) -> Facts:
    video, model, _ = network(run)
    specs = video.layers(model)
    few = random_segment(video, 4, model=model, weight=60)
    facts: Facts = {
        "kMAC per pixel": macs_per_frame(specs) / video.width / video.height / 1000,
        "weights": weight_count(specs),
    }
    for arithmetic in ("float32", "float64"):
        made = torch_kernels.Network(few, video.bit_depth, arithmetic, str(run.device))
        for batch in BATCHES[:2] if run.tiny else BATCHES:
            run.check()
            embeddings = np.tile(few.embedding, (-(-batch // 4), 1, 1, 1))[:batch]
            try:
                took = run.seconds(partial(made.run, embeddings))
                facts[f"{arithmetic}, batches of {batch}"] = batch / took
            except torch.cuda.OutOfMemoryError:
                facts[f"{arithmetic}, batches of {batch}"] = "does not fit"
    return facts


def fit(run: Run) -> Facts:
    """On the device, and on the processor."""
    video, frames = clip(run.tiny)
    _, model, budget = network(run)
    height, width = (n * model.stride for n in model.embed_size(video.width, video.height))
    packed = np.stack([pack(planes, video.chroma_format, height, width) for planes in frames[:8]])
    facts: Facts = {}
    for device in dict.fromkeys((run.device, torch.device("cpu"))):
        run.check()
        task = FitTask(packed, video, model, PRESETS["medium"].fit, budget, device)
        first = FloatPhase(task)
        size = min(first.training.schedule.batch_frames, len(packed))
        index = torch.arange(size, device=device)
        facts["frames of a batch"] = size
        facts[f"float, {device.type}"] = run.seconds(partial(first.train, index, 1))
        second = first.quantized()
        facts[f"quantized, {device.type}"] = run.seconds(partial(second.train, index, 1))
    return facts


# ---------------------------------------------------------------- the paper's network


def rgb(header: VideoHeader, frames: list[Planes]) -> Tensor:
    """uint8 [T, 3, H, W]."""
    made = [to_frame(header, planes).reformat(format="rgb24").to_ndarray() for planes in frames]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


def paper(run: Run, parameters: int, epochs: int) -> Facts:
    """Adam at 1e-3, warm-up over a tenth of the epochs, then a cosine, as tools/paper trains it."""
    header, planes = clip(run.tiny)
    source = rgb(header, planes).to(run.device)
    size = header.height, header.width
    strides = PAPER_STRIDES[run.tiny]
    model = family.build_hnerv(parameters, len(source), size, strides).to(run.device)
    moments = torch.linspace(0, 1, len(source), device=run.device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    kept = run.work / f"hnerv-{parameters}-{epochs}.pt"
    epoch, spent = 0, 0.0
    if kept.exists():
        state = torch.load(kept, map_location=run.device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        epoch, spent = state["epoch"], state["seconds"]
    begun = saved = time.monotonic()

    def keep() -> None:
        run.synchronize()
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": epoch,
            "seconds": spent + time.monotonic() - begun,
        }
        with open_complete_or_absent(kept) as file:
            torch.save(state, file)

    while epoch < epochs:
        try:
            run.check()
        except OutOfTime:
            keep()
            raise
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(epoch))
        for step, chosen in enumerate(torch.split(order.to(run.device), PAPER_BATCH)):
            share = (epoch + step * PAPER_BATCH / len(source)) / epochs
            cosine = 0.5 + 0.5 * math.cos(math.pi * (share - 0.1) / 0.9)
            rate = 1e-3 * max(0.01, 10 * share if share < 0.1 else cosine)
            optimizer.param_groups[0]["lr"] = rate
            target = source[chosen].float() / 255
            loss = (model(moments[chosen], target) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epoch += 1
        if time.monotonic() - saved > KEEP_EVERY:
            keep()
            saved = time.monotonic()
            print(f"    epoch {epoch} of {epochs}", flush=True)
    run.synchronize()
    seconds = spent + time.monotonic() - begun
    facts = {
        "epochs": epochs,
        "numbers": family.stored(model, len(source), size),
        "PSNR": family_psnr(model, source, moments),
        "seconds": seconds,
    }
    kept.unlink(missing_ok=True)
    return facts


@torch.no_grad()
def family_psnr(model: nn.Module, source: Tensor, moments: Tensor) -> float:
    """In RGB, the mean of the frames'."""
    total = 0.0
    for n in range(len(source)):
        frame = source[n : n + 1]
        made = model(moments[n : n + 1], frame.float() / 255).mul(255).round().clamp(0, 255)
        error = (made.double() - frame.double()).square().mean().clamp(min=1e-9)
        total += float(10 * torch.log10(255**2 / error))
    return total / len(source)


# ---------------------------------------------------------------- ours


class Until(Observer):
    """Ends an encode when the time is up; its job folder has the fit of some seconds before."""

    def __init__(self, run: Run):
        self.run = run

    def progressed(self, number: int, progress: Progress) -> None:
        self.run.check()


def ours(run: Run, size: int, preset: str) -> Facts:
    header, planes = clip(run.tiny)
    source = run.work / f"bunny{header.width}x{len(planes)}.y4m"
    if not source.exists():
        write_y4m(source, header, planes)
    output = run.work / f"{preset}-{size}.hnv"
    options = session.EncodeOptions(
        rate=Rate(size=size),
        preset=preset,
        device=str(run.device),
        dispatch=Dispatch(threads=processors()),
    )
    clock, begun = output.with_suffix(".seconds"), time.monotonic()
    spent = float(clock.read_text()) if clock.exists() else 0.0
    try:
        made = session.encode(
            FileInput(str(source)), output, options, resume=True, observer=Until(run)
        )
    finally:
        spent += time.monotonic() - begun
        clock.write_text(str(spent))
    with Decoder(output, device=str(run.device), path="float32") as decoder:
        decoded = [planes for _, planes in decoder.frames(range(len(decoder)))]
    facts = {
        "preset": preset,
        "bytes": made.bytes,
        "PSNR": rgb_psnr(header, planes, decoded),
        "PSNR of all samples": made.error.average,
        "seconds": spent,
    }
    output.unlink()
    clock.unlink()
    return facts


# ---------------------------------------------------------------- all of it


def jobs(run: Run) -> Iterator[tuple[str, str, Callable[[], Facts]]]:
    """(kind, name, what measures it)."""
    sizes, epochs = ((4_000,), 2) if run.tiny else ((750_000, 1_500_000), 300)
    presets = ("ultrafast",) if run.tiny else ("fast", "medium")
    yield "exact", "exact", partial(exact, run)
    yield "decode", "decode", partial(decode, run)
    yield "fit", "fit", partial(fit, run)
    for size in sizes:
        yield "paper", f"HNeRV, {size:,}", partial(paper, run, size, epochs)
    for preset in presets:
        for size in sizes:
            yield "hnv", f"{preset}, {size:,}", partial(ours, run, size, preset)


def report(results: dict[str, dict[str, Facts]]) -> str:
    lines = ["# On a GPU, measured", "", "Made by `tools/gpu`."]
    for machine, done in results.items():
        lines += ["", f"## {machine}"]
        kinds = {facts["kind"]: None for facts in done.values()}
        for kind in kinds:
            lines += ["", f"{TITLES[kind]}:", "", "| | |", "|---|---|"]
            for name, facts in done.items():
                if facts["kind"] == kind:
                    label = "" if name == kind else f"{name}: "
                    lines += [
                        f"| {label}{fact} | {shown(value)} |"
                        for fact, value in facts.items()
                        if fact != "kind"
                    ]
    return "\n".join(lines) + "\n"


def shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/hnervcodec-gpu")
    parser.add_argument("--results", type=Path, default=ROOT / "tools/results/gpu")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("gpu: torch sees no CUDA here; --device cpu --tiny tries the tool", file=sys.stderr)
        return 1
    for folder in (given.work, given.results):
        folder.mkdir(parents=True, exist_ok=True)
    run = Run(torch.device(given.device), given.work, deadline, given.tiny)
    kept = given.results / "results.json"
    results: dict[str, dict[str, Facts]] = json.loads(kept.read_text()) if kept.exists() else {}
    done = results.setdefault(run.machine, {})
    waiting = [job for job in jobs(run) if job[1] not in done]
    for kind, name, measure in waiting:
        print(f"{name} ...", flush=True)
        try:
            run.check()
            done[name] = {"kind": kind} | measure()
        except OutOfTime:
            total = len(list(jobs(run)))
            print(f"{len(done)} of {total} done: the same command goes on", file=sys.stderr)
            return UNFINISHED
        for path, text in (
            (kept, json.dumps(results, indent=1) + "\n"),
            (given.results / "README.md", report(results)),
        ):
            with open_complete_or_absent(path) as file:
                file.write(text.encode())
    print(report({run.machine: done}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
