"""See tools/paper. PSNRs are in RGB, the mean of the frames', in dB."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import family
import imageio_ffmpeg
import numpy as np
import paper_report
import torch
import walkers
from paper_rows import ROWS, Job, Row, load
from reference import CLIPS, ROOT, append, compare, read_clip, write_y4m
from torch import Tensor, nn

from hnervcodec import Decoder, VideoHeader
from hnervcodec.benchmark import other_codecs
from hnervcodec.bitstream import range_coding
from hnervcodec.encoding.encoder import encode
from hnervcodec.encoding.plan import Settings
from hnervcodec.media.frames import to_frame
from hnervcodec.media.masks import read_masks
from hnervcodec.media.sinks import Y4mSink
from hnervcodec.planes import Planes

BATCH = 2  # of the HNeRV repository
BOXES, SIDE = 5, 12  # the paper's 50 of 640 rows, at 160


NETWORKS = tuple(family.MODELS)
NOISES = ("Gaussian 20", "salt and pepper 5 %")
# ffmpeg's, as they come and at the strengths that were best here.
FILTERS = (
    "hqdn3d", "hqdn3d=50:40:75:60", "nlmeans", "nlmeans=s=15", "nlmeans=s=22", "median=radius=1",
)  # fmt: skip
DENOISED_FRAMES = 60
WALKERS = "walkers"
FILMED = f"{WALKERS}, as filmed"
HNV = ("hnv ultrafast", "hnv faster", "hnv fast")


def studies() -> dict[str, list[Job]]:
    made = {
        "convergence": [
            Job("convergence", "bunny320", model, epochs=epochs)
            for epochs in (30, 75, 150)
            for model in NETWORKS
        ]
        + [Job("convergence", "bunny320", preset) for preset in HNV],
        "size": [
            Job("size", "bunny320", model, parameters, 75)
            for parameters in (50_000, 100_000, 200_000)
            for model in NETWORKS
        ]
        + [
            Job("size", "bunny320", "hnv faster", parameters)
            for parameters in (25_000, 50_000, 100_000, 200_000)
        ],
        "interpolation": [Job("interpolation", "bunny320", model, epochs=60) for model in NETWORKS]
        + [Job("interpolation", "bunny320", model) for model in ("blend", *HNV)],
        "inpainting": [
            job
            for clip, epochs in (("bunny320", 150), ("bikes320", 75))
            for job in (
                *(Job("inpainting", clip, model, epochs=epochs) for model in ("NeRV", "HNeRV")),
                *(Job("inpainting", clip, model) for model in ("Telea", "hnv faster", "hnv fast")),
            )
        ],
        "objects": [Job("objects", WALKERS, model, epochs=75) for model in ("NeRV", "HNeRV")]
        + [Job("objects", WALKERS, model) for model in ("Telea", "hnv faster", "hnv fast")],
        "denoising": [
            Job("denoising", noisy, model)
            for noisy in (*(f"carphone, {noise}" for noise in NOISES), FILMED)
            for model in ("as it is", *FILTERS, "hnv faster")
        ],
        "enlarging": [
            *(Job("enlarging", "bunny320", model) for model in ("bicubic", "lanczos")),
            *(Job("enlarging", "bunny320", "HNeRV", epochs=epochs) for epochs in (75, 150)),
        ],
        "pipeline": [Job("pipeline", "bunny320", "HNeRV", epochs=150)],
        "decoding": [
            Job("decoding", "bunny320", model)
            for model in (*NETWORKS, "hnv faster", "libx264", "libx265")
        ],
    }
    if walkers.CLIP.exists():
        return made
    absent = (WALKERS, FILMED)
    return {name: [job for job in jobs if job.clip not in absent] for name, jobs in made.items()}


# ---------------------------------------------------------------- frames


@cache
def clip(name: str) -> tuple[VideoHeader, list[Planes], Tensor]:
    """Header, planes and RGB frames uint8 [T, 3, H, W]."""
    if name == WALKERS:
        header, frames, _ = walkers.walkers(walkers.SCENE)
    else:
        file, filters = CLIPS[name]
        header, frames = read_clip(ROOT / "clips" / file, filters)
    return header, frames, rgb(header, frames)


def rgb(header: VideoHeader, frames: list[Planes]) -> Tensor:
    made = [to_frame(header, planes).reformat(format="rgb24").to_ndarray() for planes in frames]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


def size_of(frames: Tensor) -> tuple[int, int]:
    """(H, W) of [T, 3, H, W]."""
    height, width = frames.shape[2:]
    return height, width


def psnr(made: Tensor, wanted: Tensor, where: Tensor | None = None) -> float:
    """Mean over frames uint8 [T, 3, H, W]; only of the pixels `where` [T, 1, H, W]."""
    return float(psnrs(made, wanted, where).mean())


def psnrs(made: Tensor, wanted: Tensor, where: Tensor | None = None) -> Tensor:
    """Of each frame [T]."""
    errors = (made.double() - wanted.double()).square()
    if where is None:
        means = errors.mean((1, 2, 3))
    else:
        means = (errors * where).sum((1, 2, 3)) / (3 * where.double().sum((1, 2, 3)))
    return 10 * torch.log10(255**2 / means.clamp(min=1e-9))


def boxes(name: str) -> list[dict[str, int]]:
    """Five boxes at random places of each frame, the same in every run."""
    header, frames, _ = clip(name)
    random = np.random.default_rng(0)
    return [
        {
            "x": 2 * int(random.integers((header.width - SIDE) // 2 + 1)),
            "y": 2 * int(random.integers((header.height - SIDE) // 2 + 1)),
            "width": SIDE,
            "height": SIDE,
            "first": n,
            "last": n,
        }
        for n in range(len(frames))
        for _ in range(BOXES)
    ]


def masks(name: str) -> list[Planes]:
    header, frames, _ = clip(name)
    with tempfile.TemporaryDirectory() as folder:
        if name == WALKERS:
            _, _, background = walkers.walkers(walkers.SCENE)
            path = Path(folder) / "people.y4m"
            with open(path, "wb") as file:
                sink = Y4mSink(file, replace(header, chroma_format=0))
                for n, where in enumerate(walkers.people(frames, background)):
                    sink.write(n, (255 * where.astype(np.uint8),))
        else:
            path = Path(folder) / "boxes.json"
            path.write_text(json.dumps(boxes(name)))
        return list(islice(read_masks(path, header), len(frames)))


def holes(name: str) -> Tensor:
    """bool [T, 1, H, W]."""
    return torch.from_numpy(np.stack([mask[0] for mask in masks(name)]))[:, None]


# ---------------------------------------------------------------- the family's harness


def train(
    model: nn.Module,
    frames: Tensor,
    moments: Tensor,
    epochs: int,
    hidden: Tensor | None = None,
    seen: Callable[[Tensor], Tensor] = lambda frames: frames,
) -> float:
    """Fits the model to frames uint8 [T, 3, H, W] as HNeRV's authors do: Adam at 1e-3, warm-up over
    a tenth of the epochs, then a cosine; squared error in RGB, of what is `seen` of the frames and
    not hidden. Returns seconds."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    steps, step = epochs * math.ceil(len(frames) / BATCH), 0
    start = time.monotonic()
    for epoch in range(epochs):
        for index in torch.randperm(len(frames)).split(BATCH):
            share = step / steps
            cosine = 0.5 + 0.5 * math.cos(math.pi * (share - 0.1) / 0.9)
            rate = 1e-3 * max(0.01, 10 * share if share < 0.1 else cosine)
            optimizer.param_groups[0]["lr"] = rate
            target = frames[index].float() / 255
            errors = (seen(model(moments[index], target)) - seen(target)).square()
            if hidden is not None:
                errors = errors * ~hidden[index]
            loss = errors.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        if epoch % 10 == 9:
            print(
                f"    epoch {epoch + 1}/{epochs}, {time.monotonic() - start:.0f} s, "
                f"{-10 * math.log10(float(loss.detach())):.2f} dB",
                flush=True,
            )
    return time.monotonic() - start


@torch.no_grad()
def run(model: nn.Module, frames: Tensor, moments: Tensor) -> Tensor:
    """Frames uint8 as the model makes them."""
    made = [
        model(moments[index], frames[index].float() / 255)
        for index in torch.arange(len(moments)).split(4)
    ]
    return torch.cat(made).mul(255).round().clamp(0, 255).byte()


def fresh(job: Job, frames: int) -> nn.Module:
    _, _, source = clip(job.clip)
    return family.build(job.model, job.parameters, frames, size_of(source))


def moments(count: int) -> Tensor:
    return torch.linspace(0, 1, count)


# ---------------------------------------------------------------- hnv


def code(job: Job, frames: list[Planes], **arguments: object) -> tuple[bytes, float]:
    """A `.hnv` file of one byte for each of the job's parameters, and the seconds it took."""
    header = clip(job.clip)[0]
    file, start = io.BytesIO(), time.monotonic()
    settings = Settings(bytes_per_frame=job.parameters / len(frames), preset=job.model.split()[1])
    encode(header, frames, file, settings, **arguments)  # type: ignore[arg-type]
    return file.getvalue(), time.monotonic() - start


def decode(job: Job, coded: bytes, positions: list[int | Fraction] | None = None) -> Tensor:
    header, _, _ = clip(job.clip)
    with Decoder(coded) as decoder:
        wanted = positions or list(range(len(decoder)))
        return rgb(header, [planes for _, planes in decoder.frames(wanted)])


# ---------------------------------------------------------------- studies


Found = tuple[str, float, int, float]  # measured, value, bytes, seconds


def fit(job: Job) -> Iterator[Found]:
    """PSNR of all frames after fitting to all frames."""
    _, frames, source = clip(job.clip)
    if job.model in NETWORKS:
        model, times = fresh(job, len(source)), moments(len(source))
        seconds = train(model, source, times, job.epochs)
        size = family.stored(model, len(source), size_of(source))
        yield "PSNR", psnr(run(model, source, times), source), size, seconds
    else:
        coded, seconds = code(job, frames)
        yield "PSNR", psnr(decode(job, coded), source), len(coded), seconds


def interpolate(job: Job) -> Iterator[Found]:
    """Every second frame is fitted; PSNR of those and of the ones between them."""
    _, frames, source = clip(job.clip)
    even, odd = source[::2], source[1:-1:2]
    if job.model == "blend":
        mean = ((even[:-1].short() + even[1:].short() + 1) // 2).byte()
        yield "between", psnr(mean, odd), 0, 0.0
    elif job.model in NETWORKS:
        model, times = fresh(job, len(even)), moments(len(even))
        seconds = train(model, even, times, job.epochs)
        size = family.stored(model, len(even), size_of(source))
        yield "coded", psnr(run(model, even, times), even), size, seconds
        between = (times[:-1] + times[1:]) / 2
        if isinstance(model, family.HNeRV):
            yield (
                "between, embedding of the frame itself",
                psnr(run(model, odd, between), odd),
                size,
                0.0,
            )
            with torch.no_grad():
                known = torch.cat([model.encoder(f.float() / 255) for f in even.split(4)])
                made = [model.decoder(e) for e in ((known[:-1] + known[1:]) / 2).split(4)]
            middle = torch.cat(made).mul(255).round().clamp(0, 255).byte()
        else:
            middle = run(model, odd, between)
        yield "between", psnr(middle, odd), size, 0.0
    else:
        coded, seconds = code(job, frames[::2])
        shown = decode(job, coded)
        yield "coded", psnr(shown, even), len(coded), seconds
        halves: list[int | Fraction] = [Fraction(2 * n + 1, 2) for n in range(len(odd))]
        yield "between", psnr(decode(job, coded, halves), odd), len(coded), 0.0
        blend = ((shown[:-1].short() + shown[1:].short() + 1) // 2).byte()
        yield "between, decoded neighbours blended", psnr(blend, odd), len(coded), 0.0


def telea(source: Tensor, where: Tensor) -> Tensor:
    """OpenCV's picture-by-picture inpainting of the same holes."""
    filled = [
        cv2.inpaint(
            frame.permute(1, 2, 0).numpy(), hole[0].numpy().astype(np.uint8), 3, cv2.INPAINT_TELEA
        )
        for frame, hole in zip(source, where, strict=True)
    ]
    return torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2)


def inpaint(job: Job) -> Iterator[Found]:
    """PSNR within the holes: to what is there, or to the scene behind the people."""
    header, frames, source = clip(job.clip)
    where, wanted = holes(job.clip), source
    if job.clip == WALKERS:
        _, _, background = walkers.walkers(walkers.SCENE)
        wanted = rgb(header, [background] * len(frames))
    if job.model == "Telea":
        made, seconds, size = telea(source, where), 0.0, 0
    elif job.model in NETWORKS:
        model, times = fresh(job, len(source)), moments(len(source))
        damaged = torch.where(where, 255, source)
        seconds = train(model, damaged, times, job.epochs, where)
        size = family.stored(model, len(source), size_of(source))
        made = run(model, damaged, times)
    else:
        coded, seconds = code(job, frames, masks=masks(job.clip))
        made, size = decode(job, coded), len(coded)
    yield "holes", psnr(made, wanted, where), size, seconds
    better = psnrs(made, wanted, where) > psnrs(telea(source, where), wanted, where)
    if job.model != "Telea":
        yield (
            "percent of the frames better than Telea",
            100 * float(better.float().mean()),
            size,
            0.0,
        )
    if job.model == "hnv fast":
        paper_report.holes_picture(job.clip, job.model, source, where, made)


def noisy(frames: list[Planes], kind: str) -> list[Planes]:
    random = np.random.default_rng(0)
    made = []
    for planes in frames:
        if kind.startswith("Gaussian"):
            damaged = [p + random.normal(0, 20, p.shape) for p in planes]
        else:
            struck = [random.random(p.shape) for p in planes]
            damaged = [
                np.where(r < 0.05, np.where(r < 0.025, 0, 255), p)
                for p, r in zip(planes, struck, strict=True)
            ]
        made.append(tuple(np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in damaged))
    return made


def filtered(header: VideoHeader, frames: list[Planes], filters: str) -> list[Planes]:
    """Through ffmpeg."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.y4m", Path(folder) / "made.y4m"
        write_y4m(given, header, frames)
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-v",
            "error",
            "-i",
            given,
            "-vf",
            filters,
            made,
        ]
        subprocess.run(command, check=True)
        return read_clip(made)[1]


def denoise(job: Job) -> Iterator[Found]:
    """PSNR to the clean frames, over all samples of the planes; of what was filmed, over luma where
    nobody walks, to the scene without noise."""
    hidden: list[Planes] | None = None
    if job.clip == FILMED:
        header, filmed, background = walkers.walkers(walkers.DETAIL)
        given = filmed[:DENOISED_FRAMES]
        moving = walkers.people(given, background)
        hidden = [(m, *(np.ones(p.shape, bool) for p in background[1:])) for m in moving]
        frames = [background] * len(given)
    else:
        name, noise = job.clip.split(", ")
        header, whole, _ = clip(name)
        frames = whole[:DENOISED_FRAMES]
        given = noisy(frames, noise)
    made, size, start = given, 0, time.monotonic()
    if job.model.startswith("hnv"):
        file = io.BytesIO()
        encode(header, given, file, Settings(denoise=True, preset=job.model.split()[1]))
        with Decoder(file.getvalue()) as decoder:
            made = [planes for _, planes in decoder.frames(range(len(decoder)))]
        size = len(file.getvalue())
    elif job.model != "as it is":
        made = filtered(header, given, job.model)
    seconds = time.monotonic() - start
    error = compare(header, frames, made, hidden)
    if not hidden:
        yield "PSNR", error.average, size, seconds
    yield "luma", error.per_plane[0], size, seconds if hidden else 0.0


def enlarge(job: Job) -> Iterator[Found]:
    """PSNR of frames made from ones of half the size: by a filter, or by a network that is fitted
    so that its frames, halved, are these."""
    _, _, source = clip(job.clip)
    small = halved(source.float())
    if job.model in NETWORKS:
        model, times = fresh(job, len(source)), moments(len(source))
        given = small.round().byte().repeat_interleave(2, 2).repeat_interleave(2, 3)
        seconds = train(model, given, times, job.epochs, seen=halved)
        yield "PSNR", psnr(run(model, given, times), source), 0, seconds
    else:
        kernel = {"bicubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}[job.model]
        height, width = size_of(source)
        made = [
            cv2.resize(frame.permute(1, 2, 0).numpy(), (width, height), interpolation=kernel)
            for frame in small.round().byte()
        ]
        yield "PSNR", psnr(torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2), source), 0, 0.0


def halved(frames: Tensor) -> Tensor:
    """[..., H, W] to half the size: means of 2x2."""
    return torch.nn.functional.avg_pool2d(frames, 2)


def pipeline(job: Job) -> Iterator[Found]:
    """HNeRV's own way to a small file (its section 3.4), step by step. The bytes are those of
    float32, of 8 bits, and of a range coder with a table per tensor."""
    _, _, source = clip(job.clip)
    model, times = fresh(job, len(source)), moments(len(source))
    assert isinstance(model, family.HNeRV)
    seconds = train(model, source, times, job.epochs)
    count = family.stored(model, len(source), size_of(source))
    yield "float32", psnr(run(model, source, times), source), 4 * count, seconds
    seconds += prune(model, source, times, job.epochs // 6)
    yield "pruned by 10 %", psnr(run(model, source, times), source), 4 * count, seconds
    with torch.no_grad():
        embedding = torch.cat([model.encoder(f.float() / 255) for f in source.split(4)])
        levels = [quantize(p, 8) for p in model.decoder.parameters()]
        for p, (q, low, step) in zip(model.decoder.parameters(), levels, strict=True):
            p.copy_(q * step + low)
        q, low, step = quantize(embedding, 6)
        made = [model.decoder(e) for e in (q * step + low).split(4)]
    shown = torch.cat(made).mul(255).round().clamp(0, 255).byte()
    numbers = sum(t.numel() for t, _, _ in levels) + q.numel() * 6 / 8
    yield "8 bits per weight, 6 per embedding", psnr(shown, source), round(numbers), seconds
    pieces = [
        (t - t.median()).round().to(torch.int32).numpy().reshape(-1)
        for t in (*(t for t, _, _ in levels), q)
    ]
    coded = range_coding.encode([(range_coding.fit_table(piece), piece) for piece in pieces])
    side = 12 * len(pieces)  # table, lowest value and step of each tensor
    yield "entropy coded", psnr(shown, source), len(coded) + side, seconds


def prune(model: family.HNeRV, source: Tensor, times: Tensor, epochs: int) -> float:
    """A tenth of the decoder's weights, the smallest, become zero; the others are trained on.
    Returns seconds."""
    weights = [p for p in model.decoder.parameters() if p.dim() > 1]
    cut = torch.cat([w.detach().abs().flatten() for w in weights]).quantile(0.1)
    kept = [w.detach().abs() > cut for w in weights]

    @torch.no_grad()
    def cut_off() -> None:
        for w, k in zip(weights, kept, strict=True):
            w.mul_(k)

    cut_off()
    hooks = [
        w.register_hook(lambda gradient, k=k: gradient * k)
        for w, k in zip(weights, kept, strict=True)
    ]
    seconds = train(model, source, times, epochs)
    for hook in hooks:
        hook.remove()
    cut_off()
    return seconds


def quantize(x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """(levels, lowest value, step), per tensor."""
    low, high = x.min(), x.max()
    step = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
    return ((x - low) / step).round(), low, step


def decoding(job: Job) -> Iterator[Found]:
    """Frames per second, from what is stored to 8-bit frames; networks of 100,000 parameters."""
    header, frames, source = clip(job.clip)
    if job.model.startswith("lib"):
        anchor = other_codecs.code(job.model, header, frames, {"crf": "28", "preset": "medium"})
        seconds, size = anchor.decode_seconds, anchor.bytes
    elif job.model in NETWORKS:
        model, times = fresh(job, len(source)), moments(len(source))
        size = family.stored(model, len(source), size_of(source))
        if isinstance(model, family.HNeRV):
            with torch.no_grad():
                known = torch.cat([model.encoder(f.float() / 255) for f in source.split(4)])
            model.forward = lambda t, frames: model.decoder(frames)  # type: ignore[method-assign]
            source = known.mul(255)
        run(model, source[:8], times[:8])
        start = time.monotonic()
        run(model, source, times)
        seconds = time.monotonic() - start
    else:
        coded, _ = code(job, frames)
        size, start = len(coded), time.monotonic()
        with Decoder(coded) as decoder:
            for _ in decoder.frames(range(len(decoder))):
                pass
        seconds = time.monotonic() - start
    yield "frames/s", len(frames) / seconds, size, 0.0


MEASURE = {
    "convergence": fit, "size": fit, "interpolation": interpolate, "inpainting": inpaint,
    "objects": inpaint, "denoising": denoise, "enlarging": enlarge, "pipeline": pipeline,
    "decoding": decoding,
}  # fmt: skip

# ---------------------------------------------------------------- the table of rows


def missing(jobs: list[Job]) -> list[Job]:
    known = {Job(r.study, r.clip, r.model, r.parameters, r.epochs) for r in load()}
    return [job for job in jobs if job not in known]


def main() -> None:
    made = studies()
    if not sys.argv[1:]:
        for name, jobs in made.items():
            print(f"{name}: {len(missing(jobs))} of {len(jobs)} rows to measure")
        return
    for name in sys.argv[1:]:
        if name != "report" and name not in made:
            sys.exit(f"no study {name!r}: choose from {', '.join(made)}, report")
    for name in sys.argv[1:]:
        for job in missing(made.get(name, [])):
            print(job, flush=True)
            rows = [
                Row(
                    **asdict(job),
                    measured=measured,
                    value=round(value, 3),
                    bytes=size,
                    seconds=round(seconds, 1),
                    threads=torch.get_num_threads(),
                )
                for measured, value, size, seconds in MEASURE[job.study](job)
            ]
            for row in rows:
                print(f"    {row.measured}: {row.value} ({row.bytes:,} bytes, {row.seconds} s)")
            append(ROWS, rows)
    paper_report.write(load())


if __name__ == "__main__":
    main()
