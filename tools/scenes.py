"""See tools/scenes."""

from __future__ import annotations

import io
from dataclasses import replace

from reference import ROOT, Filters, read_clip

from hnervcodec import presets
from hnervcodec.commands.options import SCENECUT
from hnervcodec.encoder import encode
from hnervcodec.libav import SceneDetector
from hnervcodec.plan import Settings
from hnervcodec.scenes import scan

SIZE: Filters = (("scale", "320:180:flags=lanczos"), ("setsar", "1"))
# clip, first frame, frames; the third has a change of scene in it, after 50 frames.
PARTS = (
    ("bigbuckbunny.mp4", 0, 132), ("carphone_pristine.mp4", 0, 120), ("bikes.mp4", 137, 105),
)  # fmt: skip
CUTS = [132, 252, 302]
SEGMENT, BITS_PER_PIXEL, UPDATES = 128, 0.05, 6

frames = []
for name, first, count in PARTS:
    header, read = read_clip(ROOT / "clips" / name, SIZE, first + count)
    frames += read[first:]
header = replace(header, width=320, height=180)
score = SceneDetector(header)
found = [n for n, planes in enumerate(frames) if score(planes) >= SCENECUT]
even = scan(header, frames, 80, 0)  # as many
cut = scan(header, frames, SEGMENT, SCENECUT)
presets.PRESETS["short"] = replace(
    presets.PRESETS["faster"], fit=replace(presets.PRESETS["faster"].fit, updates_per_frame=UPDATES)
)
lines = [
    "# Segments and scenes",
    "",
    f"Made by `tools/scenes`: {len(frames)} frames of 320x180 with changes of scene at "
    f"{CUTS}; found: {found}. {BITS_PER_PIXEL} bpp, `faster` with {UPDATES} steps per frame, "
    f"--segment {SEGMENT}.",
    "",
    "| segments | bytes | average PSNR | 6:1:1 | seconds |",
    "|---|---|---|---|---|",
]
for lengths in (even, cut, [len(frames)]):
    made = encode(
        header, frames, io.BytesIO(),
        Settings(
            preset="short", lengths=tuple(lengths),
            bytes_per_frame=BITS_PER_PIXEL * header.width * header.height / 8,
        ),
    )  # fmt: skip
    lines.append(
        f"| {', '.join(map(str, lengths))} | {made.bytes:,} | {made.error.average:.2f} "
        f"| {made.error.weighted:.2f} | {made.seconds:.0f} |"
    )
    print(lines[-1], flush=True)
    (ROOT / "tools/results/scenes.md").write_text("\n".join(lines) + "\n")
