"""See tools/scenes."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from itertools import accumulate
from unittest import mock

import torch
from reference import BUNNY_320, ROOT, Filters, read_clip

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding.defaults import SCENECUT
from hnervcodec.encoding.encoder import EncodeResult, encode
from hnervcodec.encoding.plan import Settings
from hnervcodec.fitting import fit, presets
from hnervcodec.fitting.float_phase import FloatPhase
from hnervcodec.fitting.training import FitTask
from hnervcodec.media.filters import SceneDetector
from hnervcodec.media.scenes import scan
from hnervcodec.planes import Planes

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


# ---------------------------------------------------------------- does a segment help the next?

CONTINUED = (("bigbuckbunny.mp4", BUNNY_320, 0.06), ("carphone_pristine.mp4", (), 0.05))


Networks = list[dict[str, torch.Tensor]]


def coded(
    header: VideoHeader,
    frames: list[Planes],
    bits: float,
    preset: presets.Preset,
    start: Networks | None,
) -> tuple[EncodeResult, Networks]:
    """An encode of one segment, whose fit begins with the networks `start`, and those it ends
    with."""
    networks: list[torch.nn.Module] = []

    class Continued(FloatPhase):
        def __init__(self, task: FitTask):
            super().__init__(task)
            networks[:] = self.training.synthesis, self.analysis
            for network, state in zip(networks, start or (), strict=False):
                network.load_state_dict(state)

    settings = Settings(preset=preset, bytes_per_frame=bits * header.width * header.height / 8)
    with mock.patch.object(fit, "FloatPhase", Continued):
        made = encode(header, frames, io.BytesIO(), settings)
    return made, [network.state_dict() for network in networks]


def measure_warm() -> list[str]:
    lines = [
        "# Does a segment help the next?",
        "",
        "Made by `tools/scenes warm`: the second half of a clip without changes of scene, fitted "
        "from random weights (cold), from the networks that the fit to the first half ended with "
        "(warm), and from the one of them that is in the file (decoder only). PSNR of all samples, "
        "at equal bytes.",
        "",
        "| clip | bytes | preset | steps per frame | cold | warm | decoder only |",
        "|---|---|---|---|---|---|---|",
    ]
    for file, filters, bits in CONTINUED:
        header, frames = read_clip(ROOT / "clips" / file, filters)
        first, second = frames[: len(frames) // 2], frames[len(frames) // 2 :]
        for name in ("ultrafast", "faster"):
            whole = presets.PRESETS[name]
            _, networks = coded(header, first, bits, whole, None)
            for share in (1.0, 0.5, 0.25):
                updates = whole.fit.updates_per_frame * share
                config = replace(whole.fit, updates_per_frame=updates)
                tried = replace(whole, fit=config)
                found = [
                    coded(header, second, bits, tried, start)[0]
                    for start in (None, networks, networks[:1])
                ]
                shown = " | ".join(f"{made.error.average:.2f}" for made in found)
                size = f"{bits * header.width * header.height * len(second) / 8:,.0f}"
                lines.append(
                    f"| {file.partition('.')[0]} | {size} | {name} | {updates:g} | {shown} |"
                )
                print(lines[-1], flush=True)
    return lines


STUDIES = {"cuts": (measure_cuts, "scenes.md"), "segments": (measure_segments, "segments.md"),
           "warm": (measure_warm, "warm.md")}  # fmt: skip


def main() -> None:
    for name in sys.argv[1:]:
        if name not in STUDIES:
            sys.exit(f"no study {name!r}: choose from {', '.join(STUDIES)}")
    for name in sys.argv[1:]:
        measure, page = STUDIES[name]
        (ROOT / "tools/results" / page).write_text("\n".join(measure()) + "\n")


if __name__ == "__main__":
    main()
