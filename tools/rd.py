"""See tools/rd. This module measures; rd_report draws."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

import av
import numpy as np
import rd_report
import torch
from pytorch_msssim import ms_ssim
from rd_points import POINTS, Job, Point, load
from reference import CLIPS, ROOT, append, compare, read_clip, rgb_psnr

from hnervcodec import Decoder, VideoHeader
from hnervcodec.benchmark import other_codecs
from hnervcodec.encoding.encoder import EncodeResult, encode
from hnervcodec.encoding.plan import Settings
from hnervcodec.fitting import fit as fitting
from hnervcodec.fitting import model_choice, presets
from hnervcodec.fitting.progress import Progress
from hnervcodec.planes import Planes, plane_bytes

# What of the package decides the bytes of a file; the ways to compute its frames do not.
ENCODER = (
    "bitstream/architecture", "bitstream/container", "bitstream/fields", "bitstream/headers",
    "bitstream/levels", "bitstream/range_coding", "bitstream/segment",
    "encoding/defaults", "encoding/encoder", "encoding/plan", "encoding/segment_encoder",
    "fitting/coarser", "fitting/cores", "fitting/final_rounding", "fitting/first_embeddings",
    "fitting/fit", "fitting/float_phase", "fitting/loss", "fitting/model_choice", "fitting/muon",
    "fitting/presets", "fitting/quality_target", "fitting/quantization", "fitting/quantized_phase",
    "fitting/rate_model", "fitting/synthesis_network", "fitting/training",
    "fitting/training_kernel", "metrics/ms_ssim", "planes", "synthesis/tables", "system/devices",
)  # fmt: skip

CRF = {"libx264": (23, 28, 33, 38, 43), "libx265": (23, 28, 33, 38, 43),
       "libsvtav1": (25, 35, 45, 53, 61)}  # fmt: skip
SMALL = ("carphone", "bunny320", "bikes320")
# hnv's rates in bits per pixel: about 30 to 38 dB.
RATES = {
    "carphone": (0.02, 0.05, 0.1, 0.2), "bunny320": (0.03, 0.06, 0.1, 0.15),
    "bikes320": (0.03, 0.06, 0.1, 0.15), "bunny640": (0.01, 0.02, 0.04, 0.08),
    "bikes640": (0.015, 0.03, 0.06, 0.1), "bunny1280": (0.005, 0.01, 0.02, 0.0232, 0.04, 0.08),
}  # fmt: skip
# 0.0232 bpp of bunny1280: a fifth of the bytes of the HNeRV repository's own file.


def anchors(clip: str) -> list[Job]:
    jobs = [
        Job(clip, codec, preset, crf, tune)
        for codec in ("libx264", "libx265")
        for preset in ("medium", "veryslow")
        for tune in ("", "psnr")
        for crf in CRF[codec]
    ]
    return jobs + [Job(clip, "libsvtav1", "5", crf) for crf in CRF["libsvtav1"]]


def studies() -> dict[str, list[Job]]:
    """Every study, quickest first."""
    made = {f"anchors-{clip}": anchors(clip) for clip in CLIPS}
    for preset in presets.PRESETS:
        for clip in CLIPS:
            made[f"{clip}-{preset}"] = [Job(clip, "hnv", preset, rate) for rate in RATES[clip]]
    made["rate-control"] = [
        Job(clip, "hnv", preset, rate)
        for clip in SMALL
        for preset in ("ultrafast", "faster")
        for rate in (0.02, 0.05, 0.1, 0.2)
    ]
    made["ablation"] = [
        Job(clip, "hnv", "faster", rate, variant)
        for clip, rate in (("carphone", 0.05), ("bunny320", 0.06))
        for variant in ("", *ABLATIONS)
    ]
    # Two techniques where they matter: small budgets have no positions to lose, and only bikes
    # suffers from a rate that comes at once.
    made["ablation"] += [
        Job(clip, "hnv", "faster", rate, variant)
        for clip, rate, changed in (("bunny1280", 0.02, FEW_POSITIONS), ("bikes320", 0.1, AT_ONCE))
        for variant in ("", changed)
    ]
    return made


# ---------------------------------------------------------------- measuring


@cache
def clip_frames(name: str) -> tuple[VideoHeader, list[Planes], str]:
    """Header, frames and digest of a standard clip."""
    file, filters = CLIPS[name]
    header, frames = read_clip(ROOT / "clips" / file, filters)
    digest = hashlib.sha256(repr((header.width, header.height, header.bit_depth)).encode())
    for planes in frames:
        digest.update(plane_bytes(planes))
    return header, frames, digest.hexdigest()[:12]


@cache
def version_of(codec: str) -> str:
    if codec != "hnv":
        return f"PyAV {av.__version__} ffmpeg {av.ffmpeg_version_info}"
    digest = hashlib.sha256()
    for module in ENCODER:
        digest.update(code_of((ROOT / f"hnervcodec/{module}.py").read_text()).encode())
    for source in ("training_kernel", "muon"):
        digest.update((ROOT / f"hnervcodec/fitting/{source}.c").read_bytes())
    return digest.hexdigest()[:12]


class _Bare(ast.NodeTransformer):
    """Leaves imports out, also those for type checking."""

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_for_types else self.generic_visit(node)


def code_of(source: str) -> str:
    """What Python makes of a module, without what changes no byte: comments, docstrings, and
    imports, so that a module that only moves keeps its points."""
    tree = _Bare().visit(ast.parse(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            documented = ast.get_docstring(node) is not None
            node.body = (node.body[1:] if documented else node.body) or [ast.Pass()]
    return ast.unparse(tree)


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def luma_ms_ssim(source: list[Planes], decoded: list[Planes], white: int) -> float:
    """Mean over frames. Five scales, the usual window of 11, or 7 where a side is too short."""
    window = 11 if min(source[0][0].shape) > 160 else 7
    total = 0.0
    for ours, theirs in zip(source, decoded, strict=True):
        a, b = (torch.from_numpy(p[0].astype(np.float32))[None, None] for p in (ours, theirs))
        total += float(ms_ssim(a, b, data_range=white, win_size=window))
    return total / len(source)


def measure(job: Job) -> Point:
    header, source, content = clip_frames(job.clip)
    weights, macs = 0, 0.0
    if job.codec == "hnv":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "coded.hnv"
            with open(path, "wb") as file:
                made = encode_variant(job, header, source, file)
            start = time.monotonic()
            with Decoder(path) as decoder:
                decoded = [planes for _, planes in decoder.frames(range(len(decoder)))]
            decode_seconds, size = time.monotonic() - start, path.stat().st_size
        encode_seconds, weights, macs = made.seconds, made.weights, made.macs_per_pixel
    else:
        options = {"crf": f"{job.rate:g}", "preset": job.preset}
        if job.variant:
            options["tune"] = job.variant
        anchor = other_codecs.code(job.codec, header, source, options)
        decoded, size = anchor.decoded, anchor.bytes
        encode_seconds, decode_seconds = anchor.encode_seconds, anchor.decode_seconds
    error = compare(header, source, decoded)
    y, cb, cr = error.per_plane
    return Point(
        job.clip,
        job.codec,
        job.preset,
        job.rate,
        job.variant,
        content,
        version_of(job.codec),
        len(source),
        header.width,
        header.height,
        size,
        round(y, 4),
        round(cb, 4),
        round(cr, 4),
        round(error.average, 4),
        round(error.weighted, 4),
        round(rgb_psnr(header, source, decoded), 4),
        round(luma_ms_ssim(source, decoded, header.max_sample), 6),
        round(encode_seconds, 2),
        round(decode_seconds, 3),
        torch.get_num_threads(),
        weights,
        round(macs, 1),
        commit(),
    )


def encode_variant(
    job: Job, header: VideoHeader, source: list[Planes], file: BinaryIO
) -> EncodeResult:
    """`encode` as the command calls it, or with one technique of ABLATIONS taken away."""
    ablation = ABLATIONS[job.variant] if job.variant else Ablation()
    preset = ablation.apply(presets.PRESETS[job.preset])
    last = 0.0

    def report(number: int, progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > 20 or progress.step == progress.steps:
            last = time.monotonic()
            print(
                f"    {progress.step}/{progress.steps} {progress.psnr:.2f} dB "
                f"{progress.bytes or 0:,.0f} bytes {progress.seconds:.0f} s",
                flush=True,
            )

    with mock.patch.object(*ablation.patch) if ablation.patch else nullcontext():
        return encode(
            header,
            source,
            file,
            Settings(
                preset=preset,
                bytes_per_frame=job.rate * header.width * header.height / 8,
                **{"tune": "psnr", **ablation.arguments},
            ),
            report=report,
        )


# ---------------------------------------------------------------- ablations


@dataclass(frozen=True)
class Ablation:
    """The encoder with one thing changed."""

    fit: dict[str, Any] = field(default_factory=dict)  # of FitConfig
    limits: dict[str, int] = field(default_factory=dict)  # of ShapeLimits
    patch: tuple[object, str, object] | None = None  # object, attribute, what stands in for it
    arguments: dict[str, Any] = field(default_factory=dict)  # of encode

    def apply(self, preset: presets.Preset) -> presets.Preset:
        fit, limits = replace(preset.fit, **self.fit), replace(preset.limits, **self.limits)
        return replace(preset, fit=fit, limits=limits)


def adam(parameters: list[torch.nn.Parameter], **_: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=2e-3)


AT_ONCE = "the whole lambda at once"
FEW_POSITIONS = "embeddings of about ten positions"
ABLATIONS = {
    FEW_POSITIONS: Ablation(patch=(model_choice, "POSITIONS_SHARE", 0.0)),
    "Adam instead of Muon": Ablation(patch=(torch.optim, "Muon", adam)),
    "without weight decay": Ablation({"matrix_decay": 0.0}),
    "batches of four frames, half the steps": Ablation({"batch_frames": 4}),
    "batches of one frame, twice the steps": Ablation({"batch_frames": 1}),
    "without the rate in the loss": Ablation({"rate_weight": 0.0}),
    AT_ONCE: Ablation(patch=(fitting, "FIRST_RATE", 1.0)),
    "steps scaled together, not learned": Ablation({"step_rate": 0.0}),
    "quantizers in the loop for the last 2 % only": Ablation(
        {"quantize_from": 0.98, "round_activations_from": 0.98}
    ),
    "activations rounded from the first quantized step": Ablation({"round_activations_from": 0.5}),
    "squared error over all samples": Ablation({"plane_balance": 0.0}),
    "planes balanced for 6:1:1 alone": Ablation({"plane_balance": 1.0}),
    "without residual convolutions": Ablation(limits={"residuals": 0}),
    "2.5 bits per weight": Ablation(patch=(model_choice, "BITS_PER_WEIGHT", 2.5)),
    "3.5 bits per weight": Ablation(patch=(model_choice, "BITS_PER_WEIGHT", 3.5)),
    "7 bits per weight": Ablation(patch=(model_choice, "BITS_PER_WEIGHT", 7.0)),
    "with --prune 0.1": Ablation(arguments={"prune": 0.1}),
    "a 3x3 head": Ablation(patch=(model_choice, "HEAD_KERNEL", 3)),
    "with --tune balanced": Ablation(arguments={"tune": "balanced"}),
    "with --tune ssim": Ablation(arguments={"tune": "ssim"}),
    "float32 training": Ablation(patch=(fitting, "bf16_pays", lambda device: False)),
}


def missing(jobs: list[Job]) -> list[Job]:
    """Those without a point of the present code on the present frames."""
    known = {(p.job, p.content, p.version) for p in load()}
    return [
        job for job in jobs if (job, clip_frames(job.clip)[2], version_of(job.codec)) not in known
    ]


def main() -> None:
    if sys.argv[1:] == ["hash"]:
        print(version_of("hnv"))
        return
    made = studies()
    if not sys.argv[1:]:
        for name, jobs in made.items():
            print(f"{name}: {len(missing(jobs))} of {len(jobs)} points to measure")
        return
    for name in sys.argv[1:]:
        if name != "report" and name.partition("@")[0] not in made:
            sys.exit(f"no study {name!r}: choose from {', '.join(made)}, report")
    for name in sys.argv[1:]:
        study, _, rate = name.partition("@")
        jobs = [job for job in made.get(study, []) if not rate or f"{job.rate:g}" == rate]
        if rate and not jobs:
            sys.exit(f"study {study} has no rate {rate}")
        for job in missing(jobs):
            print(f"{name}: {job}", flush=True)
            point = measure(job)
            append(POINTS, [point])
            print(
                f"    {point.bytes:,} bytes {point.bpp:.4f} bpp, Y {point.psnr_y:.2f} "
                f"6:1:1 {point.psnr_611:.2f} dB, MS-SSIM {point.ms_ssim:.4f}, "
                f"{point.encode_seconds:.0f} s",
                flush=True,
            )
    rd_report.write(load())


if __name__ == "__main__":
    main()
