"""Arbitrary and nearly sound bytes: the product refuses or decodes them as the reference decoder
does. `tools/fuzz examples N` runs more of the same."""

import os
import subprocess
import sys
from collections import Counter

import fuzzing
import numpy as np
import pytest
import refdec
from fuzzing import check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import ROOT
from vectors import join, make_file, make_video, random_segment, repair, split

from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.range_coding import LevelDecoder, Table
from hnervcodec.errors import FileError

EXAMPLES = int(os.environ.get("HNV_FUZZ_EXAMPLES", "150"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="HNV_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    database=None,
)
SEEDS = [
    path.read_bytes()
    for path in sorted((ROOT / "spec/vectors/valid").glob("*.hnv"))
    if path.stat().st_size < 3000 and path.stem not in ("limit-weights", "level-60")
]
outcomes: Counter[str] = Counter()


@pytest.fixture(autouse=True, scope="module")
def report():  # type: ignore[no-untyped-def]
    yield
    if "HNV_FUZZ_EXAMPLES" in os.environ:
        print(f"\n{dict(outcomes)}; {fuzzing.report()}")
    if sum(outcomes.values()) > 2 * EXAMPLES:  # not when a single test was chosen
        assert outcomes["valid"] and outcomes["refused"]


def test_commands_on_extreme_files() -> None:
    """A short `tools/fuzz commands`: always the same files."""
    command = [
        sys.executable,
        ROOT / "tools/fuzz_commands.py",
        "60",
        "--seed",
        "1",
        "--cases",
        "25",
    ]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "'valid'" in run.stdout and "'refused'" in run.stdout


@fuzz
@given(st.sampled_from(SEEDS), st.data())
def test_mutated_payloads(seed: bytes, data: st.DataObject) -> None:
    """One or a few bytes of one chunk changed, taken away or added; checksums and index right."""
    prefix, chunks = split(seed)
    n = data.draw(st.integers(0, len(chunks) - 1))
    kind, payload = chunks[n]
    changed = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(changed) - 1, 0)))
        action = data.draw(st.sampled_from(("set", "set", "flip", "cut", "add")))
        if action == "add" or not changed:
            changed[at:at] = data.draw(st.binary(max_size=4))
        elif action == "cut":
            del changed[at : at + data.draw(st.integers(1, 4))]
        elif action == "flip":
            changed[at] ^= 1 << data.draw(st.integers(0, 7))
        else:
            changed[at] = data.draw(st.integers(0, 255))
    chunks[n] = kind, bytes(changed)
    outcomes[check(join(prefix, chunks, relocate=data.draw(st.booleans())))] += 1


@fuzz
@given(st.sampled_from(SEEDS), st.data())
def test_mutated_structure(seed: bytes, data: st.DataObject) -> None:
    """Chunks moved, repeated, dropped, renamed."""
    prefix, chunks = split(seed)
    for _ in range(data.draw(st.integers(1, 2))):
        n = data.draw(st.integers(0, len(chunks) - 1))
        match data.draw(st.sampled_from(("drop", "repeat", "move", "rename", "add"))):
            case "drop" if len(chunks) > 1:
                del chunks[n]
            case "repeat":
                chunks.insert(n, chunks[n])
            case "move":
                chunks.insert(data.draw(st.integers(0, len(chunks) - 1)), chunks.pop(n))
            case "rename":
                kinds = (b"VHDR", b"SEGM", b"INDX", b"HEND", b"ABCD", b"abcd", b"a1cd")
                chunks[n] = data.draw(st.sampled_from(kinds)), chunks[n][1]
            case _:
                chunks.insert(n, (b"teST", data.draw(st.binary(max_size=9))))
    outcomes[check(join(prefix, chunks))] += 1


@fuzz
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2999), st.binary(max_size=4))),
    st.integers(0, 3000),
    st.booleans(),
)
def test_damaged_bytes(
    seed: bytes, edits: list[tuple[int, bytes]], cut: int, repaired: bool
) -> None:
    data = bytearray(seed)
    for at, new in edits:
        data[at : at + len(new)] = new
    damaged = bytes(data[:cut] if cut < len(data) else data)
    outcomes[check(repair(damaged) if repaired and len(damaged) > 24 else damaged)] += 1


@fuzz
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(data: bytes, signed: bool) -> None:
    outcomes[check(SEEDS[0][:24] + data if signed else data)] += 1


@fuzz
@given(st.data())
@pytest.mark.slow
def test_random_files_decode_alike(data: st.DataObject) -> None:
    """Networks, sizes and formats of any kind, whole: valid, and the same bytes."""
    small = st.integers(1, 4)
    stages = tuple(
        StageConfig(
            data.draw(small),
            data.draw(st.sampled_from((1, 3, 5, 7))),
            data.draw(small),
            data.draw(st.integers(0, 2)),
        )
        for _ in range(data.draw(st.integers(1, 3)))
    )
    head_kernel = data.draw(st.sampled_from((1, 3, 5, 7)))
    model = ModelConfig(data.draw(small), data.draw(small), stages, head_kernel)
    video = make_video(
        data.draw(st.integers(1, 40)),
        data.draw(st.integers(1, 40)),
        data.draw(st.integers(0, 3)),
        data.draw(st.integers(8, 12)),
    )
    weight = data.draw(st.sampled_from((1, 20, 127, 2000)))
    frames, seed = data.draw(small), data.draw(st.integers(0, 2**32 - 1))
    file = make_file(video, [random_segment(video, frames, seed, model, weight=weight)])
    outcome = check(file)
    outcomes[outcome] += 1
    assert outcome in ("valid", "large")


@fuzz
@given(
    st.lists(
        st.tuples(
            st.integers(0, 8191), st.integers(0, 255), st.integers(0, 191), st.integers(0, 30)
        ),
        max_size=4,
    ),
    st.binary(max_size=64),
)
def test_range_decoder(pieces: list[tuple[int, int, int, int]], words: bytes) -> None:
    """Any words under any tables: the same levels, or refused by both."""
    words = words[: len(words) // 4 * 4]
    theirs = refdec.RangeDecoder(words)
    ours = LevelDecoder(words)
    for max_level, zero, decay, count in pieces:
        fields = max_level.to_bytes(2, "little") + bytes([zero, decay])
        table = refdec.read_table(refdec.Fields(fields, "table"), "table")
        try:
            expected = theirs.levels(table, count)
        except refdec.Damaged:
            with pytest.raises(FileError):
                ours.decode(Table(max_level, zero, decay), count)
            return
        assert np.array_equal(ours.decode(Table(max_level, zero, decay), count), expected)
    try:
        theirs.end()
    except refdec.Damaged:
        with pytest.raises(FileError):
            ours.end()
    else:
        ours.end()
