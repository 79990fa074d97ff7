"""The specification, its data and the code say the same."""

import hashlib
import math
import re

import pytest
import refdec
from running import ROOT

from hnervcodec.bitstream import ancillary, container, levels
from hnervcodec.bitstream.fields import crc32
from hnervcodec.synthesis import tables

SPEC = (ROOT / "spec/bitstream.md").read_text()


def test_activation_table_is_the_specification_s() -> None:
    data = (ROOT / "spec/tables/gelu.bin").read_bytes()
    assert data == (ROOT / "hnervcodec/synthesis/gelu.bin").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert digest == tables.GELU_SHA256 and digest in SPEC
    for m in range(0, 4096, 7):
        x = m / 1024
        assert data[m] == pytest.approx(1024 * x * 0.5 * math.erfc(x / math.sqrt(2)), abs=0.51)


def test_versions_and_signature() -> None:
    assert f"version {container.MAJOR}.{container.MINOR}" in SPEC.splitlines()[0]
    assert container.SIGNATURE.hex(" ").upper() in SPEC


def test_levels() -> None:
    rows = re.findall(r"^\| (\d0) \| 2\^(\d+) \| 2\^(\d+) \|$", SPEC, re.MULTILINE)
    assert {int(n): (1 << int(luma), 1 << int(weights)) for n, luma, weights in rows} == {
        level.number: (level.luma_samples, level.weights) for level in levels.LEVELS.values()
    }


def test_examples() -> None:
    from golden_streams import GOLDEN_FREQUENCIES, GOLDEN_STREAM

    assert ", ".join(map(str, GOLDEN_FREQUENCIES)) in SPEC
    assert bytes.fromhex(GOLDEN_STREAM).hex(" ") in SPEC


def test_the_worked_example_is_the_vector() -> None:
    listing = SPEC[SPEC.index("## 15. Example") :].split("```")[1]
    lines = [re.match(r"((?:[0-9a-f]{2} {1,2})+)", line) for line in listing.splitlines()]
    data = bytes.fromhex("".join(line[1] for line in lines if line))
    path = ROOT / "spec/vectors/valid/example.hnv"
    assert data == path.read_bytes()
    assert list(refdec.decode(data)) == [bytes([3, 11, 7, 17])]
    assert "`03 0b 07 11` is 0x1a552926" in SPEC and crc32(bytes([3, 11, 7, 17])) == 0x1A552926


def test_every_chunk_is_registered() -> None:
    registry = re.findall(r"^\| `([A-Za-z]{4})` \|", SPEC, re.MULTILINE)
    beside = (ancillary.DISPLAY, ancillary.TIMES, ancillary.STREAM, ancillary.PACKETS)
    assert [kind.encode() for kind in registry] == [*container.PREDECESSORS, *beside]
