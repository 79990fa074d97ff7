"""What must hold for any bytes whatever, checked on one input, by tests and by tools/fuzz."""

from __future__ import annotations

import time
from pathlib import Path

import refdec

from hnervcodec.bitstream import segment
from hnervcodec.bitstream.fields import ByteReader
from hnervcodec.bitstream.reader import Reader
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.errors import HnervError
from hnervcodec.planes import plane_bytes

LEVEL = 10  # inputs are tiny; what a higher level allows is only more of the same
MAX_SECONDS, MAX_SECONDS_PER_MEGABYTE = 2.0, 1.0  # of the processor
MAX_MEMORY = 256  # MiB for one input; torch and the product themselves take 240
# Beyond these, a file may be sound and still take the reference decoder long.
MAX_SYMBOLS, MAX_MACS = 20_000, 20_000_000
HIGH_WATER = Path("/proc/self/clear_refs")  # Linux: writing "5" resets VmHWM
most = {"seconds": 0.0, "MiB": 0.0}  # that one input took of the product


def check(data: bytes) -> str:
    """Returns "valid", "refused" or "large" (sound as far as it was read, but not decoded).

    Fails with an AssertionError if the product and the reference decoder disagree or the product
    is slow or greedy; any other exception than the product's own has escaped it."""
    start, before = time.process_time(), resident("VmRSS")
    if HIGH_WATER.exists():
        HIGH_WATER.write_text("5")
    try:
        with Decoder(data, max_level=LEVEL) as decoder:
            decoder.reader.check()
            if is_large(decoder.reader):
                outcome, frames = "large", []
            else:
                frames = [plane_bytes(p) for _, p in decoder.frames(range(len(decoder)))]
                outcome = "valid"
    except HnervError as error:
        outcome, frames = "refused", []
        assert str(error) and "\n" not in str(error)
    check_recovery(data)
    seconds, memory = time.process_time() - start, resident("VmHWM") - before
    assert seconds < MAX_SECONDS + MAX_SECONDS_PER_MEGABYTE * len(data) / 1e6, f"{seconds:.1f} s"
    assert memory < MAX_MEMORY, f"{memory:.0f} MiB"
    most.update({"seconds": max(most["seconds"], seconds), "MiB": max(most["MiB"], memory)})
    if outcome != "large" and data[11:12] <= bytes([LEVEL]):
        try:
            expected = list(refdec.decode(data))
        except refdec.Faulty as error:
            assert outcome == "refused", f"refdec refuses: {error}"
        else:
            assert outcome == "valid" and frames == expected, "refdec reads it differently"
    return outcome


def resident(field: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most since its reset; 0 where Linux does not say."""
    if not HIGH_WATER.exists():
        return 0.0
    status = Path("/proc/self/status").read_text()
    return int(status.split(field + ":")[1].split("kB")[0]) / 1024


def report() -> str:
    return f"an input took at most {most['seconds']:.2f} s and {most['MiB']:.0f} MiB"


def check_recovery(data: bytes) -> None:
    """Whatever is left of a file decodes, or says why not."""
    try:
        with Decoder(data, max_level=LEVEL, recover=True) as decoder:
            if not is_large(decoder.reader):
                for entry in decoder.reader.index:
                    list(decoder.frames(entry.frames[:1]))
    except HnervError:
        pass


def is_large(reader: Reader) -> bool:
    for entry in reader.index:
        payload = reader.segment_payload(entry)
        header, specs = segment.read_header(ByteReader(payload), reader.video, reader.level)
        stem = specs[0]
        embedding = header.frame_count * stem.in_channels * stem.height * stem.width
        if embedding + sum(spec.weights for spec in specs) > MAX_SYMBOLS:
            return True
        if header.frame_count * sum(spec.macs for spec in specs) > MAX_MACS:
            return True
        if header.frame_count * sum(spec.features for spec in specs) > MAX_MACS:
            return True
    return False
