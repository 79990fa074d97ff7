"""See tools/scenes."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import torch
from reference import BUNNY_320, ROOT, Filters, read_clip

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding import session
from hnervcodec.encoding.defaults import SCENECUT, SEGMENT_FRAMES
from hnervcodec.encoding.dispatch import Dispatch
from hnervcodec.encoding.encoder import encode
from hnervcodec.encoding.memory_input import MemoryInput
from hnervcodec.encoding.plan import Settings
from hnervcodec.encoding.rate import Rate
from hnervcodec.encoding.session import EncodeOptions
from hnervcodec.fitting import presets
from hnervcodec.media.filters import SceneDetector
from hnervcodec.media.scenes import scan
from hnervcodec.planes import Planes
from hnervcodec.system.devices import processor_name

SIZE: Filters = (("scale", "320:180:flags=lanczos"), ("setsar", "1"))
BUNNY, CARPHONE, BIKES = "bigbuckbunny.mp4", "carphone_pristine.mp4", "bikes.mp4"
INNER = {BUNNY: (), CARPHONE: (), BIKES: (30, 76, 137, 187, 242)}  # cuts, by eye, all frames seen
Part = tuple[str, int, int]  # clip, its first frame, the one after its last


def film(parts: tuple[Part, ...]) -> tuple[VideoHeader, list[Planes], list[int]]:
    """The parts one after the other, and the frames that begin a scene."""
    frames: list[Planes] = []
    cuts = set()
    for name, start, stop in parts:
        header, read = read_clip(ROOT / "clips" / name, SIZE, stop)
        cuts |= {len(frames) + n - start for n in (start, *INNER[name]) if start <= n < stop}
        frames += read[start:]
    return replace(header, width=320, height=180), frames, sorted(cuts - {0})


def scores(header: VideoHeader, frames: list[Planes]) -> list[float]:
    score = SceneDetector(header)
    return [score(planes) for planes in frames]


# ---------------------------------------------------------------- cuts: are they found?

# Every frame of the three clips once; each part follows one of another clip.
SHUFFLED: tuple[Part, ...] = (
    (BUNNY, 0, 40), (BIKES, 0, 60), (CARPHONE, 0, 30), (BUNNY, 40, 70), (CARPHONE, 30, 54),
    (BIKES, 130, 170), (BUNNY, 70, 90), (BIKES, 60, 100), (CARPHONE, 54, 84), (BIKES, 170, 215),
    (BUNNY, 90, 110), (CARPHONE, 84, 102), (BIKES, 100, 130), (BUNNY, 110, 132), (BIKES, 215, 250),
    (CARPHONE, 102, 120),
)  # fmt: skip
THRESHOLDS = (2.0, 5.0, 8.0, SCENECUT, 12.0, 15.0, 20.0)


def measure_cuts() -> list[str]:
    header, frames, cuts = film(SHUFFLED)
    found = scores(header, frames)
    lowest = min(cuts, key=lambda n: found[n])
    highest = max(set(range(1, len(frames))) - {*cuts}, key=lambda n: found[n])
    inside = [n - 1 for n in accumulate((stop - start for _, start, stop in SHUFFLED), initial=1)]
    own = [n for n in cuts if n not in inside]
    lines = [
        "# Are changes of scene found?",
        "",
        f"Made by `tools/scenes cuts`. {len(SHUFFLED)} parts of bigbuckbunny, bikes and carphone, "
        f"{len(frames)} frames of 320x180, of which {len(cuts)} begin a scene: "
        f"{len(SHUFFLED) - 1} where parts meet and {len(own)} within bikes, seen by eye. All are "
        "cuts: the clips have no fades. Each frame is scored as `hnv encode` scores it "
        f"(libavfilter's scdet); {SCENECUT:g} is its threshold.",
        "",
        "| threshold | found | right | precision | recall |",
        "|---|---|---|---|---|",
    ]
    for threshold in THRESHOLDS:
        taken = [n for n, score in enumerate(found) if score >= threshold]
        right = len({*taken} & {*cuts})
        precision = f"{right / len(taken):.3f}" if taken else ""
        lines.append(
            f"| {threshold:g} | {len(taken)} | {right} | {precision} | {right / len(cuts):.3f} |"
        )
    return [
        *lines,
        "",
        f"The lowest score of a change of scene is {found[lowest]:.1f} (frame {lowest}), the "
        f"highest of any other frame {found[highest]:.1f} (frame {highest}). All changes and their "
        f"scores: {', '.join(f'{n}: {found[n]:.1f}' for n in cuts)}.",
    ]


# ---------------------------------------------------------------- segments: do they pay?

PARTS: tuple[Part, ...] = ((BUNNY, 0, 132), (CARPHONE, 0, 120), (BIKES, 137, 242))
SEGMENT, BITS_PER_PIXEL, UPDATES = 128, 0.05, 6


def measure_segments() -> list[str]:
    header, frames, cuts = film(PARTS)
    found = [n for n, score in enumerate(scores(header, frames)) if score >= SCENECUT]
    even = scan(header, frames, 80, 0)  # as many
    cut = scan(header, frames, SEGMENT, SCENECUT)
    preset = presets.PRESETS["faster"]
    preset = replace(preset, fit=replace(preset.fit, updates_per_frame=UPDATES))
    lines = [
        "# Segments and scenes",
        "",
        f"Made by `tools/scenes segments`: {len(frames)} frames of 320x180 with changes of scene "
        f"at {cuts}; found: {found}. {BITS_PER_PIXEL} bpp, `faster` with {UPDATES} steps per "
        f"frame, --segment {SEGMENT}.",
        "",
        "| segments | bytes | average PSNR | 6:1:1 | seconds |",
        "|---|---|---|---|---|",
    ]
    for lengths in (even, cut, [len(frames)]):
        made = encode(
            header,
            frames,
            io.BytesIO(),
            Settings(
                preset=preset,
                lengths=tuple(lengths),
                bytes_per_frame=BITS_PER_PIXEL * header.width * header.height / 8,
            ),
        )
        lines.append(
            f"| {', '.join(map(str, lengths))} | {made.bytes:,} | {made.error.average:.2f} "
            f"| {made.error.weighted:.2f} | {made.seconds:.0f} |"
        )
        print(lines[-1], flush=True)
    return lines


# ---------------------------------------------------------------- do segments share a start?


Clip = tuple[VideoHeader, list[Planes]]


def walkers() -> Clip:
    size: Filters = (("scale", "160:120:flags=lanczos"), ("setsar", "1"))
    return read_clip(ROOT / "clips/vtest.avi", size, 400)


def bunny() -> Clip:
    return read_clip(ROOT / "clips" / BUNNY, BUNNY_320)


def shuffled() -> Clip:
    header, frames, _ = film(SHUFFLED)
    return header, frames


# What it is, its frames, bits per pixel, --segment, --scenecut, preset.
FILMS: tuple[tuple[str, Callable[[], Clip], float, int, float, str], ...] = (
    ("vtest, one scene, 160x120", walkers, 0.05, 27, 0, "faster"),
    ("vtest, one scene, 160x120", walkers, 0.05, 27, 0, "ultrafast"),
    ("parts of three clips, 320x180", shuffled, 0.08, 30, SCENECUT, "ultrafast"),
    ("bigbuckbunny, one scene, 320x160", bunny, 0.06, 66, 0, "ultrafast"),
)


def measure_warm() -> list[str]:
    lines = [
        "# What is a start worth that all segments share?",
        "",
        "Made by `tools/scenes warm`: films whose segments are fitted from random weights (cold), "
        "and from the weights of one short fit to frames of the whole film, whose steps come out "
        "of theirs (started), as `hnv encode` does it. PSNR of all samples, at the same rate; "
        f"seconds of processor time, one thread, {processor_name()}.",
        "",
        "| film | segments | preset | bytes cold | started | PSNR cold | started | gain "
        "| seconds cold | started |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    torch.set_num_threads(1)
    for name, read, bits, segment, scenecut, preset in FILMS:
        header, frames = read()
        lengths = tuple(scan(header, frames, segment, scenecut))
        rate = bits * header.width * header.height / 8
        settings = Settings(preset=preset, lengths=lengths, bytes_per_frame=rate)
        options = EncodeOptions(rate=Rate(bpp=bits), preset=preset, dispatch=Dispatch(threads=1))
        source = MemoryInput(header, frames, lengths=lengths)
        begun = time.process_time()
        cold = encode(header, frames, io.BytesIO(), settings)
        between = time.process_time()
        started = session.encode(source, io.BytesIO(), options)
        seconds = between - begun, time.process_time() - between
        gain = started.error.average - cold.error.average
        lines.append(
            f"| {name} | {len(lengths)} | {preset} | {cold.bytes:,} | {started.bytes:,} "
            f"| {cold.error.average:.2f} | {started.error.average:.2f} | {gain:+.2f} "
            f"| {seconds[0]:.0f} | {seconds[1]:.0f} |"
        )
        print(lines[-1], flush=True)
    return lines


# ---------------------------------------------------------------- longer segments if little moves?

STILLS = (("vtest.avi", 512), ("box.mp4", 440))  # clip, frames of it


def measure_still() -> list[str]:
    lines = [
        "# How long should a segment be where the camera stands still?",
        "",
        "Made by `tools/scenes still`: 320x240, 0.02 bpp, `ultrafast`, one thread, "
        f"{processor_name()}. --segment {SEGMENT_FRAMES}, and auto.",
        "",
        "| clip | segments | bytes | average PSNR | 6:1:1 | weights of one | kMAC per pixel "
        "| processor seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    size: Filters = (("scale", "320:240:flags=lanczos"), ("setsar", "1"))
    torch.set_num_threads(1)
    for name, count in STILLS:
        header, frames = read_clip(ROOT / "clips" / name, size, count)
        for is_auto in (False, True):
            lengths = tuple(scan(header, frames, SEGMENT_FRAMES, SCENECUT, is_auto))
            source = MemoryInput(header, frames, lengths=lengths)
            options = EncodeOptions(
                rate=Rate(bpp=0.02), preset="ultrafast", dispatch=Dispatch(threads=1)
            )
            begun = time.process_time()
            made = session.encode(source, io.BytesIO(), options)
            lines.append(
                f"| {name} | {', '.join(map(str, lengths))} | {made.bytes:,} "
                f"| {made.error.average:.2f} | {made.error.weighted:.2f} | {made.weights:,} "
                f"| {made.macs_per_pixel / 1000:.1f} | {time.process_time() - begun:.0f} |"
            )
            print(lines[-1], flush=True)
    return lines


STUDIES = {"cuts": (measure_cuts, "scenes.md"), "segments": (measure_segments, "segments.md"),
           "warm": (measure_warm, "warm.md"), "still": (measure_still, "still.md")}  # fmt: skip


def main() -> None:
    for name in sys.argv[1:]:
        if name not in STUDIES:
            sys.exit(f"no study {name!r}: choose from {', '.join(STUDIES)}")
    for name in sys.argv[1:]:
        measure, page = STUDIES[name]
        (ROOT / "tools/results" / page).write_text("\n".join(measure()) + "\n")


if __name__ == "__main__":
    main()
