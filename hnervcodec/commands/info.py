"""`hnv info`: what a `.hnv` file holds and where its bytes went, without decoding a frame."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from hnervcodec.bitstream.ancillary import AUDIO
from hnervcodec.bitstream.fields import ByteReader
from hnervcodec.bitstream.reader import Reader
from hnervcodec.bitstream.timing import ConstantTimes
from hnervcodec.commands.files import naming_file, open_file
from hnervcodec.commands.options import MAX_LEVEL
from hnervcodec.planes import CHROMA_NAMES

# Numbers that are decoded to say where bytes went: of honest files all, of hostile ones what keeps
# `info` within about a second per megabyte.
MAX_WORK, MAX_WORK_PER_BYTE = 1 << 26, 1 << 7
WORK_PER_SEGMENT = 1 << 16  # however few numbers it has


@click.command(
    short_help="Say what a .hnv file holds and where every byte went.",
    epilog="See also: hnv help segments.",
)
@click.argument("source", metavar="IN", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="For programs; the same facts.")
@MAX_LEVEL
def info(source: str, as_json: bool, max_level: int | None) -> None:
    """Say what the .hnv file IN holds and where every byte of it went.

    Decodes no frame. A file from a stranger is safe to look at: what it declares is checked against
    the limits of its level first.

    \b
    hnv info x.hnv
    hnv info --json x.hnv | jq .bytes
    """
    with naming_file(source), open_file(source) as file:
        facts = describe(Reader(file, max_level=max_level))
    facts = {"file": source, **facts}
    click.echo(json.dumps(facts, indent=2) if as_json else as_text(facts))


def describe(reader: Reader) -> dict[str, Any]:
    """Facts of a file as plain JSON types; `bytes` adds up to the file's size."""
    from hnervcodec.bitstream import segment as segments
    from hnervcodec.bitstream.container import CHUNK_OVERHEAD, PREFIX_SIZE

    video = reader.video
    spent: dict[str, float] = {"prefix": PREFIX_SIZE}
    rows: list[dict[str, Any]] = []
    work = MAX_WORK + MAX_WORK_PER_BYTE * reader.size
    for chunk in reader.check():
        if chunk.kind != b"SEGM":
            kind = chunk.kind.decode()
            spent[kind] = spent.get(kind, 0) + CHUNK_OVERHEAD + chunk.length
            continue
        payload = reader.payload(chunk)
        r = ByteReader(payload)
        header, specs = segments.read_header(r, video, reader.level)
        work -= WORK_PER_SEGMENT + segments.decoding_work(header, specs)
        if work >= 0:
            segment = segments.read_levels(r, header, specs)
            usage = segments.usage(payload, segment, header)
        else:
            usage = segments.undivided_usage(payload, header)
        stem = specs[0]
        rows.append(
            {
                "first_frame": header.first_frame,
                "frames": header.frame_count,
                "bytes": CHUNK_OVERHEAD + chunk.length,
                "chunk": CHUNK_OVERHEAD,
                "header": usage.header,
                "embedding": usage.embedding,
                "layers": usage.layers,
                "coder": usage.coder,
                "undivided": usage.undivided,
                "frame_crcs": usage.frame_crcs,
                "embedding_shape": [stem.in_channels, stem.height, stem.width],
                "weights": {spec.name: list(spec.weight_shape) for spec in specs},
                "macs_per_pixel": sum(s.macs for s in specs) / (video.width * video.height),
            }
        )
    times = reader.frame_times
    spent["segments"] = sum(row["bytes"] for row in rows)
    pixels = video.width * video.height * video.frame_count
    return {
        "size": reader.size,
        "format": f"{reader.prefix.major}.{reader.prefix.minor}",
        "profile": reader.prefix.profile,
        "level": reader.level.number,
        "video": {**asdict(video), "frame_rate": str(video.frame_rate), "is_rgb": video.is_rgb},
        "seconds": float(times.end - times.begin),
        "begin_seconds": float(times.begin),
        "constant_rate": isinstance(times, ConstantTimes),
        "display": asdict(reader.display),
        "streams": streams_facts(reader),
        "bits_per_pixel": 8 * reader.size / pixels,
        "bits_per_second": 8 * reader.size / float(times.end - times.begin),
        "bytes": spent,
        "segments": rows,
    }


def streams_facts(reader: Reader) -> list[dict[str, Any]]:
    """What is known of each stream of sound or subtitles."""
    described: list[dict[str, Any]] = []
    for stream in reader.streams:
        facts: dict[str, Any] = {
            "kind": "sound" if stream.kind == AUDIO else "subtitles",
            "codec": stream.codec,
            "language": stream.language,
            "packets": 0,
            "bytes": 0,
        }
        if stream.kind == AUDIO:
            facts |= {"sample_rate": stream.sample_rate, "channels": stream.channels}
        described.append(facts)
    for entry in reader.index if described else ():
        for table in reader.packet_tables(entry):
            described[table.stream]["packets"] += len(table)
            described[table.stream]["bytes"] += len(table.data)
    return described


def lines_beside_frames(facts: dict[str, Any]) -> list[str]:
    """A line for each thing beside the frames: times, rotation, light levels, sound."""
    lines, display = [], facts["display"]
    if not facts["constant_rate"]:
        lines.append(f"times of its own for each frame, from {facts['begin_seconds']:.3f} s on")
    if display["rotation"] or display["mirrored"]:
        mirrored = ", then mirrored" if display["mirrored"] else ""
        lines.append(f"shown turned by {90 * display['rotation']} degrees anticlockwise{mirrored}")
    if display["mastering"]:
        low, high = (display["mastering"][f"{end}_luminance"] / 10000 for end in ("min", "max"))
        lines.append(f"mastering display of {low:g} to {high:g} cd/m2")
    if display["content_light"]:
        cll, fall = display["content_light"]
        lines.append(f"light levels: at most {cll} cd/m2, a frame's average at most {fall}")
    for number, stream in enumerate(facts["streams"]):
        form = ""
        if "channels" in stream:
            form = f", {stream['sample_rate']} Hz, {stream['channels']} channels"
        lines.append(
            f"stream {number}: {stream['kind']}, {stream['codec']}, {stream['language']}{form}, "
            f"{stream['packets']} packets of {stream['bytes']:,} bytes"
        )
    return lines


def as_text(facts: dict[str, Any]) -> str:
    """The facts that --json prints, as lines for people."""
    video = facts["video"]
    total = facts["size"]
    lines = [
        f"{facts['file']}: {video['width']}x{video['height']}, {video['frame_count']} frames at "
        f"{video['frame_rate']} frames/s ({facts['seconds']:.2f} s), {video['bit_depth']}-bit "
        f"{'RGB' if video['is_rgb'] else CHROMA_NAMES[video['chroma_format']]}"
        f"{', full range' if video['full_range'] else ''}",
        f"format {facts['format']}, profile {facts['profile']}, level {facts['level']}; "
        f"{total:,} bytes, {facts['bits_per_pixel']:.4f} bpp, "
        f"{facts['bits_per_second'] / 1000:.1f} kbit/s",
        *lines_beside_frames(facts),
        "",
        f"{'bytes':>12} {'share':>7}",
    ]

    def row(name: str, size: float, note: str = "") -> None:
        lines.append(f"{size:12,.1f} {100 * size / total:6.2f} %  {name:28}{note}".rstrip())

    for name, size in facts["bytes"].items():
        if name != "segments":
            row(name, size)
    for n, segment in enumerate(facts["segments"]):
        last = segment["first_frame"] + segment["frames"] - 1
        row(
            f"segment {n}",
            segment["bytes"],
            f"frames {segment['first_frame']}-{last}, {segment['macs_per_pixel'] / 1000:.1f} "
            "kMAC per pixel",
        )
        row("  chunk", segment["chunk"])
        row("  header and tables", segment["header"])
        shape = "x".join(map(str, segment["embedding_shape"]))
        if segment["undivided"]:
            row("  all levels", segment["undivided"], "so many that they are not told apart")
        else:
            row("  embeddings", segment["embedding"], f"{shape} per frame")
        for name, size in segment["layers"].items():
            shape = segment["weights"][name]
            count = shape[0] * shape[1] * shape[2] * shape[3]
            note = f"{'x'.join(map(str, shape))}, {8 * size / count:.2f} bits per weight"
            row(f"  {name}", size, note)
        if segment["layers"]:
            row("  range coder's end", segment["coder"])
        row("  frame checksums", segment["frame_crcs"])
    return "\n".join(lines)
