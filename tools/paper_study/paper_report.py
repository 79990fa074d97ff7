"""Tables, plots and pictures of what tools/paper measured."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from matplotlib.image import imsave
from matplotlib.ticker import NullFormatter
from paper_rows import Row
from reference import ROOT
from torch import Tensor

from hnervcodec.benchmark.plots import picture

FOLDER = ROOT / "tools/results/paper"
TICKS = {"seconds": (20, 50, 100, 200, 500), "bytes": (25_000, 50_000, 100_000, 200_000)}
COLOURS = {"NeRV": "#9ecae1", "E-NeRV": "#3182bd", "HNeRV": "#e6550d", "hnv ultrafast": "#cccccc",
           "hnv faster": "#bcbddc", "hnv fast": "#756bb1"}  # fmt: skip

# What the papers report; `tools/results/paper/README.md` names the differences in set-up.
PUBLISHED = {
    "size": [
        "| published, 640x1280, 300 epochs, M parameters | 0.35 | 0.75 | 1.5 | 3 |",
        "|---|---|---|---|---|",
        "| NeRV | 26.99 | 28.46 | 30.87 | 33.21 |",
        "| E-NeRV | 27.84 | 30.95 | 32.09 | 36.72 |",
        "| HNeRV | 30.15 | 32.81 | 35.57 | 37.43 |",
        "",
        "Published with 1.1 to 9.3 parameters per thousand samples, where 50,000 to 200,000 here",
        "are 2.5 to 9.9, and 300 epochs where these have 75.",
    ],
    "convergence": [
        "| published, 640x1280, 0.75 M, epochs | 300 | 600 | 1200 | 2400 | 3600 |",
        "|---|---|---|---|---|---|",
        "| NeRV | 28.46 | 29.15 | 29.57 | 29.77 | 29.86 |",
        "| E-NeRV | 30.95 | 32.07 | 32.79 | 33.36 | 33.67 |",
        "| HNeRV | 32.81 | 33.89 | 34.51 | 34.88 | 35.03 |",
        "",
        "Published on a GPU, at 16 times the pixels and 2 to 120 times the epochs.",
    ],
    "interpolation": [
        "Published (mean of 11 videos of 640x1280, every second frame held out): NeRV 22.82, HNeRV",
        "26.15. There HNeRV's embedding of a held-out frame comes from that frame itself, through",
        "the encoder, which no decoder has; the row that says so is the one to compare.",
    ],
    "inpainting": [
        "Published (mean of 10 videos of 640x1280, boxes of 50 pixels, PSNR of the whole frames):",
        "damaged 19.96, NeRV 31.14, HNeRV 32.03, IIVI 32.97. Here: boxes of 12 pixels, which are",
        "as large a part of a quarter of the size, and PSNR within them.",
    ],
    "objects": [
        "Real people before a camera that stands still (tools/paper_study/walkers.py, 100 frames",
        "of 320x240); what is behind them is known from other moments. The paper's object masks",
        "have no truth behind them; it shows pictures.",
    ],
    "denoising": [
        "The first 60 frames, and noise that differs from sample to sample. PSNR here is over all",
        "samples of the planes, to the frames without noise. The size is chosen by `--denoise`.",
        "As filmed: a real camera's noise, where nobody walks, to the scene's median over time. It",
        "is faint, and strong filters and `--denoise` lose more of the scene than they remove.",
    ],
    "enlarging": [
        "From frames of half the size. The network's frames, halved, are fitted to these; nothing",
        "tells it what lies within each 2x2 samples, and its pixel shuffle, which makes each of",
        "the four by weights of its own, has no reason to make them alike. Hence hnv does not",
        "enlarge: a filter after decoding is better by far. (Other work shared the core.)",
    ],
    "pipeline": [
        "Published for HNeRV of 3 M (bunny, 640x1280), share pruned, PSNR, size: 0, 37.61, 100 %;",
        "10 %, 37.51, 90.2 %; 20 %, 37.02, 84.7 %; 25 %, 36.61, 81.1 %. Its 1.5 M file, decoded",
        "from 8 and 6 bits: 33.52 dB, 1,568,222 bytes. The seconds are of a core that other work",
        "shared, about three times as many as alone; PSNR swings by a decibel from epoch to epoch.",
    ],
    "decoding": [
        "Published for HNeRV of 1.5 M on two cores at 640x1280: 1.8 frames/s; that size is in",
        "tools/results/speed.md.",
    ],
}
ABOUT = {
    "convergence": "PSNR against epochs and seconds",
    "size": "PSNR against size",
    "interpolation": "Frames between frames",
    "inpainting": "Holes",
    "objects": "Behind people",
    "denoising": "Noise",
    "enlarging": "Twice the size",
    "pipeline": "HNeRV's own compression",
    "decoding": "Decoding",
}


def holes_picture(clip: str, model: str, source: Tensor, where: Tensor, made: Tensor) -> None:
    """Source, damaged and filled frames, one above the other."""
    chosen = [len(source) // 5, len(source) * 3 // 5]
    damaged = torch.where(where, 255, source)
    filled = torch.where(where, made, source)
    rows = [torch.cat([frames[n] for n in chosen], 2) for frames in (source, damaged, filled)]
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = f"holes-{clip}-{model.replace(' ', '-')}.png"
    imsave(FOLDER / name, torch.cat(rows, 1).permute(1, 2, 0).numpy())


def plot(rows: list[Row], study: str, x: str, label: str) -> None:
    with picture(FOLDER / f"{study}.png", (7, 4.5)) as axes:
        for model, colour in COLOURS.items():
            points = sorted((getattr(r, x), r.value) for r in rows if r.model == model)
            if not points:
                continue
            axes.plot(
                [p[0] for p in points], [p[1] for p in points], "o-", color=colour, label=model
            )
        axes.set(xscale="log", xlabel=label, ylabel="PSNR in RGB, dB")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(TICKS[x])
        axes.xaxis.set_major_formatter("{x:,g}")


def table(rows: Iterable[Row]) -> list[str]:
    lines = [
        "| clip | model | parameters | bytes | epochs | seconds | measured | value |",
        "|" + "---|" * 8,
    ]
    for r in rows:
        own = r.model.startswith(("hnv", "lib")) or not r.bytes
        lines.append(
            f"| {r.clip} | {r.model} | {'' if own else f'{r.parameters:,}'} "
            f"| {f'{r.bytes:,}' if r.bytes and (own or r.study == 'pipeline') else ''} "
            f"| {r.epochs or ''} "
            f"| {f'{r.seconds:.0f}' if r.seconds else ''} | {r.measured} | {r.value:.2f} |"
        )
    return lines


def write(rows: list[Row]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    threads = sorted({r.threads for r in rows})
    lines = [
        "# The paper's tables, measured again",
        "",
        "Made by `tools/paper`; all rows are in [rows.csv](rows.csv). NeRV, E-NeRV and HNeRV are",
        "written anew after their papers (tools/paper_study/family.py) and trained in one",
        "harness: RGB, squared error, Adam at 1e-3, two frames a step, float32. Their parameters",
        "are counted with HNeRV's embeddings and without its encoder; no bytes are written for",
        "them but in the pipeline. hnv's files are whole, at a byte for each of the others'",
        "parameters. PSNR in RGB, the mean of the frames', dB. Seconds: on "
        f"{' or '.join(map(str, threads))} thread(s) of one machine without a GPU.",
    ]
    for study, title in ABOUT.items():
        own = [r for r in rows if r.study == study]
        if not own:
            continue
        lines += ["", f"## {title}", ""]
        if study in ("convergence", "size"):
            x, label = (
                ("seconds", "seconds of fitting")
                if study == "convergence"
                else ("bytes", "parameters, or bytes of the file")
            )
            plot(own, study, x, label)
            lines += [f"![{title}]({study}.png)", ""]
        if study in ("inpainting", "objects"):
            clips = sorted({r.clip for r in own})
            for name in (path for c in clips for path in sorted(FOLDER.glob(f"holes-{c}-*.png"))):
                lines += [f"{name.stem}: source, damaged, filled", "", f"![]({name.name})", ""]
        lines += [*table(own), "", *PUBLISHED[study]]
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n")
