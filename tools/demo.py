"""See tools/demo. Runs the installed `hnv` as a user would."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from reference import EXCERPT, compare, read_clip

from hnervcodec import Decoder, VideoHeader
from hnervcodec.benchmark import other_codecs
from hnervcodec.media.frames import to_frame
from hnervcodec.metrics.psnr import PlaneError
from hnervcodec.planes import Planes

BPP = "0.075"
SHOWN = (10, 60, 100, 125)


def hnv(*arguments: str) -> bytes:
    command = ["hnv", *arguments]
    print("$", " ".join(command), flush=True)
    run = subprocess.run([sys.executable, "-m", "hnervcodec", *arguments], stdout=subprocess.PIPE)
    if run.returncode:
        sys.exit(run.returncode)
    return run.stdout


def image(header: VideoHeader, planes: Planes) -> Image.Image:
    made: Image.Image = to_frame(header, planes).to_image()
    return made


def per_plane(error: PlaneError) -> str:
    names = ("Y", "Cb", "Cr")
    values = "  ".join(f"{n} {p:.2f}" for n, p in zip(names, error.per_plane, strict=False))
    return f"{error.average:.2f} dB over all samples  ({values})"


def picture(
    header: VideoHeader, source: list[Planes], decoded: list[Planes], caption: list[str]
) -> Image.Image:
    """Source above decoded, a few frames side by side, with what they cost."""
    width, height, margin, line = header.width, header.height, 8, 22
    font = ImageFont.load_default(16)
    sheet = Image.new(
        "RGB",
        (
            len(SHOWN) * (width + margin) + margin,
            2 * (height + line) + 3 * margin + len(caption) * line,
        ),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for row, text in enumerate(caption):
        draw.text((margin, margin + row * line), text, "black", font)
    for column, index in enumerate(SHOWN):
        x, y = margin + column * (width + margin), margin + len(caption) * line
        error = PlaneError(header.max_sample)
        error.add(source[index], decoded[index])
        draw.text((x, y), f"source, frame {index}", "black", font)
        sheet.paste(image(header, source[index]), (x, y + line))
        y += height + line + margin
        draw.text((x, y), f"decoded, {error.average:.2f} dB", "black", font)
        sheet.paste(image(header, decoded[index]), (x, y + line))
    return sheet


def main() -> None:
    folder = Path("demo")
    folder.mkdir(exist_ok=True)
    coded = folder / "bunny.hnv"
    hnv("encode", str(EXCERPT), "-o", str(coded), "--bpp", BPP, "--preset", "faster", "-y")
    part = hnv("decode", str(coded), "--frames", "10-20", "--format", "framemd5")
    whole = hnv("decode", str(coded), "--format", "framemd5")
    assert part.splitlines() == whole.splitlines()[10:21]
    print(
        f"frames 10-20 alone are the same bytes as in a full decode "
        f"(MD5 of their checksums {hashlib.md5(part).hexdigest()})"
    )
    hnv("decode", str(coded), "-o", str(folder / "bunny.mp4"), "-y")
    print(hnv("verify", str(coded)).decode(), end="")

    header, source = read_clip(EXCERPT)
    with Decoder(coded) as decoder:
        decoder.get_planes_at(0)  # loads the network
        start = time.perf_counter()
        decoded = [planes for _, planes in decoder.frames(range(len(decoder)))]
        rate = len(decoded) / (time.perf_counter() - start)
    error = compare(header, source, decoded)
    size = coded.stat().st_size
    bpp = 8 * size / (len(source) * header.width * header.height)
    anchor = other_codecs.code_at("x265", header, source, size)
    picture(
        header,
        source,
        decoded,
        [
            f"Big Buck Bunny, {header.width}x{header.height}, {len(source)} frames, above; "
            f"below, decoded from one {size:,}-byte .hnv file ({bpp:.4f} bpp, "
            f"PSNR {error.average:.2f} dB)"
        ],
    ).save(folder / "picture.png")
    print(f"""
{coded}: {size:,} bytes, {bpp:.4f} bpp
hnv   PSNR {per_plane(error)}
x265  PSNR {per_plane(compare(header, source, anchor.decoded))}, preset slow, {anchor.bytes:,} bytes
decoding: {rate:.0f} frames/s on this machine
left behind: {coded}, {folder}/bunny.mp4, {folder}/picture.png""")


if __name__ == "__main__":
    main()
