"""The container: exact bytes, damage, and what is refused before anything is allocated."""

import io
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from patching import patched
from running import LEVEL
from vectors import make_file, make_video, random_segment, repair

from hnervcodec.bitstream import container, levels, segment
from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.fields import ByteReader, ByteWriter
from hnervcodec.bitstream.headers import VideoHeader, read_video_header, write_video_header
from hnervcodec.bitstream.reader import Reader
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.errors import FileError, HnervError, LimitError, TruncatedError, UnsupportedError


def decode_all(data: bytes) -> list[tuple[int, bytes]]:
    with Decoder(data) as decoder:
        return [
            (n, b"".join(p.tobytes() for p in planes))
            for n, planes in decoder.frames(range(len(decoder)))
        ]


def test_video_header_golden_bytes() -> None:
    header = VideoHeader(
        1280, 719, 2, Fraction(30000, 1001), 10, 2, True, 9, 16, 9, (128, 117), frame_count=77
    )
    w = ByteWriter()
    write_video_header(w, header)
    assert w.getvalue().hex(" ") == (
        "00 05 cf 02 02 0a 02 01 09 10 09 00 80 00 75 00 30 75 00 00 e9 03 00 00 4d 00 00 00"
    )
    assert read_video_header(ByteReader(w.getvalue())) == header


def test_file_layout(small_file: Path) -> None:
    data = small_file.read_bytes()
    assert data[:8] == b"\x89HNV\r\n\x1a\n"
    assert data[8:12] == bytes([1, 0, 0, 10])
    assert data[24:28] == b"VHDR"
    assert data[-32:-28] == b"HEND"
    reader = Reader(io.BytesIO(data))
    kinds = [chunk.kind for chunk in reader.chunks()]
    assert kinds == [b"VHDR", b"SEGM", b"SEGM", b"INDX", b"HEND"]
    payloads = sum(entry.length for entry in reader.index)
    assert len(data) == container.overhead(2) + payloads
    assert reader.video.frame_count == 5


def test_streamed_file_takes_its_frame_count_from_the_index(small_file: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    pipe = Pipe()
    video = make_video()
    writer = container.Writer(pipe, video, LEVEL)
    writer.segment(segment.write(random_segment(video, 3, seed=1)), 3)
    writer.segment(segment.write(random_segment(video, 2, seed=2, first_frame=3)), 2)
    size = writer.finish()
    assert size == len(pipe.getvalue()) == small_file.stat().st_size
    assert decode_all(pipe.getvalue()) == decode_all(small_file.read_bytes())


def test_segment_round_trip() -> None:
    video = make_video(chroma=3, depth=12)
    for frames in (1, 2, 7):
        before = random_segment(video, frames, seed=frames)
        payload = segment.write(before)
        after = segment.read(payload, video, LEVEL)
        header, _ = segment.read_header(ByteReader(payload), video, LEVEL)
        assert after.model == before.model
        assert (after.embedding == before.embedding).all()
        assert (after.frame_crcs == before.frame_crcs).all()
        for a, b in zip(after.layers, before.layers, strict=True):
            assert (a.weight == b.weight).all() and (a.bias == b.bias).all()
            assert a.requant == b.requant
        usage = segment.usage(payload, after, header)
        parts = usage.header + usage.embedding + sum(usage.layers.values())
        assert parts + usage.coder + usage.frame_crcs == pytest.approx(len(payload))
        assert 0 <= usage.coder < 16


def test_pruned_and_constant_tensors_round_trip() -> None:
    video = make_video()
    before = random_segment(video, 2)
    before.layers[1].weight[...] = 0
    before.layers[2].weight[...] = np.where(
        np.arange(before.layers[2].weight.size) % 50, 0, 1
    ).reshape(before.layers[2].weight.shape)
    before.layers[3].bias[...] = 0
    after = segment.read(segment.write(before), video, LEVEL)
    for a, b in zip(after.layers, before.layers, strict=True):
        assert (a.weight == b.weight).all() and (a.bias == b.bias).all()


def test_truncation_at_every_byte(small_file: Path) -> None:
    """Cut anywhere, a file is refused; with `recover` its whole segments still decode."""
    data = small_file.read_bytes()
    whole = dict(decode_all(data))
    seen = set()
    for size in range(len(data)):
        with pytest.raises(FileError):
            decode_all(data[:size])
        try:
            reader = Reader(io.BytesIO(data[:size]), recover=True)
        except HnervError:
            continue
        assert reader.damage
        frames = [n for entry in reader.index for n in entry.frames]
        seen.add(tuple(frames))
        if size % 16 == 0:
            with Decoder(data[:size], recover=True) as decoder:
                for n, planes in decoder.frames(frames):
                    assert b"".join(p.tobytes() for p in planes) == whole[n]
    assert seen == {(0, 1, 2), (0, 1, 2, 3, 4)}


def test_every_flipped_bit() -> None:
    """No single flipped bit goes unnoticed: an error, or (in the reserved flags) intact frames."""
    video = make_video(8, 6)
    model = ModelConfig(2, 3, (StageConfig(2, 3, 3, 1),), 1)
    data = make_file(video, [random_segment(video, 2, model=model)])
    whole = decode_all(data)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            decoded = decode_all(bytes(flipped))
        except HnervError:
            continue
        assert decoded == whole, f"bit {bit}"
        with pytest.raises(HnervError):  # what decoding does not need, `verify` still checks
            reader = Reader(io.BytesIO(bytes(flipped)))
            for chunk in reader.chunks():
                reader.payload(chunk)


@pytest.mark.slow
def test_repaired_damage_never_escapes_the_exception_tree(small_file: Path) -> None:
    """Wrong values under right checksums: an HnervError, or frames that fail theirs."""
    data = small_file.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        mutated = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            mutated[rng.integers(8, len(data))] = rng.integers(0, 256)
        try:
            decode_all(repair(bytes(mutated)))
        except HnervError:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize(
    ("offset", "new", "error", "message"),
    [
        (8, b"\x02", UnsupportedError, "newer hnervcodec"),
        (10, b"\x07", UnsupportedError, "unknown profile 7"),
        (11, b"\x0b", UnsupportedError, "unknown level 11"),
        (12, b"\x01", UnsupportedError, "unknown features"),
        (24, b"VXXX", UnsupportedError, "unknown critical chunk VXXX"),
        (24, b"SEGM", FileError, "not VHDR"),
        (40, b"\x00\x00", FileError, "width"),
        (40, b"\xff\xff\xff\xff", LimitError, "level 10"),
        (44, b"\x04", FileError, "chroma_format"),
        (45, b"\x07", FileError, "bit_depth"),
        (51, b"\x01", FileError, "reserved"),
        (56, b"\0\0\0\0", FileError, "frame_rate_num"),
        (64, b"\x09", FileError, "frames announced"),
    ],
)
def test_wrong_headers(
    small_file: Path, offset: int, new: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        decode_all(patched(small_file.read_bytes(), offset, new))


def test_a_huge_declared_network_is_refused_before_allocation(small_file: Path) -> None:
    """24 bytes that ask for terabytes cost nothing."""
    data = small_file.read_bytes()
    first = data.index(b"SEGM") + 16
    for offset, new, message in (
        (first + 4, b"\xff\xff", "disagree"),  # frame_count
        (data.index(b"INDX") + 36, b"\x01\x08", "frames per segment 2049"),
        (first + 6, b"\xff\x03\xff\x03", "weights|embedding"),  # embed and stem channels
    ):
        with pytest.raises((LimitError, FileError), match=message):
            decode_all(patched(data, offset, new))


def test_max_level_bounds_what_is_accepted() -> None:
    data = make_file(make_video(), [random_segment(make_video(), 1)], level=60)
    assert len(Decoder(data, max_level=60)) == 1
    for recover in (False, True):
        with pytest.raises(LimitError, match="of level 60, above 50"):
            Decoder(data, max_level=50, recover=recover)


def test_limits_are_inclusive() -> None:
    level = levels.LEVELS[10]
    levels.check_frame(level, 256, 256)
    with pytest.raises(LimitError, match="luma samples per frame 65792"):
        levels.check_frame(level, 257, 256)
    assert levels.lowest_level(256, 256).number == 10
    assert levels.lowest_level(257, 256).number == 20
    assert levels.lowest_level(1920, 1080).number == 40
    assert levels.lowest_level(7680, 4320).number == 60


def test_unknown_chunks(small_file: Path) -> None:
    """Ancillary chunks are skipped; unknown critical ones stop `chunks`."""
    data = small_file.read_bytes()
    for kind, known in ((b"teST", True), (b"XtST", False)):
        chunk = kind + struct.pack("<II", 3, 5) + b"\0\0\0\0" + b"abc" + b"\0\0\0\0"
        index = data.index(b"INDX")
        # before the index, with its offset in the end chunk moved along
        moved = bytearray(data[:index] + chunk + data[index:])
        end = len(moved) - 32
        moved[end + 16 : end + 24] = struct.pack("<Q", index + len(chunk))
        # serials of the chunks that follow
        moved[index + 8 : index + 12] = struct.pack("<I", 3)
        struct.pack_into("<I", moved, index + len(chunk) + 8, 4)
        struct.pack_into("<I", moved, end + 8, 5)
        fixed = repair(bytes(moved))
        assert decode_all(fixed) == decode_all(data)
        reader = Reader(io.BytesIO(fixed))
        if known:
            assert [c.kind for c in reader.chunks()][3] == kind
        else:
            with pytest.raises(UnsupportedError, match="XtST"):
                list(reader.chunks())


def test_bytes_after_the_end_are_refused(small_file: Path) -> None:
    with pytest.raises(FileError, match="5 bytes follow"):
        decode_all(small_file.read_bytes() + b"extra")


@pytest.mark.parametrize("end_too", [False, True])
def test_recover_skips_a_damaged_segment(small_file: Path, end_too: bool) -> None:
    data = bytearray(small_file.read_bytes())
    whole = dict(decode_all(bytes(data)))
    data[data.index(b"SEGM") + 100] ^= 1  # inside the first segment's payload
    if end_too:
        data[-1] ^= 1  # so that the index is not trusted
    with Decoder(bytes(data), recover=True) as decoder:
        assert [list(entry.frames) for entry in decoder.reader.index] == [[3, 4]]
        assert len(decoder.reader.damage) == 1 + end_too
        assert decoder.get_planes_at(4)[0].tobytes() == whole[4][: 22 * 14]
        with pytest.raises(FileError, match="frame 0 is lost"):
            decoder.get_planes_at(0)


def test_recover_reaches_frames_behind_a_hole() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    video, pipe = make_video(), Pipe()
    writer = container.Writer(pipe, video, LEVEL)
    for n in range(3):
        part = random_segment(video, 2, seed=n, first_frame=2 * n)
        writer.segment(segment.write(part), 2)
    data = bytearray(pipe.getvalue())  # never finished: no index
    data[data.index(b"SEGM", data.index(b"SEGM") + 4) + 60] ^= 1
    with Decoder(bytes(data), recover=True) as decoder:
        assert len(decoder) == 6
        assert [n for n in range(6) if decoder.is_intact(n)] == [0, 1, 4, 5]
        assert next(decoder.frames([5]))[0] == 5


def test_chunks_out_of_order_are_refused(small_file: Path) -> None:
    data = small_file.read_bytes()
    first = data.index(b"SEGM")
    second = data.index(b"SEGM", first + 4)
    index = data.index(b"INDX")
    swapped = bytearray(data[:second] + data[index:-32] + data[second:index] + data[-32:])
    for serial, offset in ((2, second), (3, second + len(data[index:-32]))):
        struct.pack_into("<I", swapped, offset + 8, serial)
    reader = Reader(io.BytesIO(repair(bytes(swapped))), recover=True)
    with pytest.raises(FileError, match="SEGM must not follow INDX"):
        list(reader.chunks())


def test_a_segment_missing_from_the_index_is_found_by_check(small_file: Path) -> None:
    reader = Reader(io.BytesIO(small_file.read_bytes()))
    assert len(reader.check()) == 5
    reader.index = reader.index[:1]
    with pytest.raises(FileError, match="does not list"):
        reader.check()


def test_wrong_frame_checksum_is_an_error() -> None:
    video = make_video()
    part = random_segment(video, 2)
    crcs = part.frame_crcs.copy()
    crcs[1] ^= 1
    file = io.BytesIO()
    writer = container.Writer(file, video, LEVEL)
    writer.segment(segment.write(replace(part, frame_crcs=crcs)), 2)
    writer.finish()
    with pytest.raises(FileError, match="frame 1 does not decode to its checksum"):
        decode_all(file.getvalue())


def test_empty_and_short_files() -> None:
    with pytest.raises(FileError, match="empty file"):
        decode_all(b"")
    with pytest.raises(TruncatedError, match="signature"):
        decode_all(b"\x89HN")
    with pytest.raises(FileError, match=r"not a \.hnv file"):
        decode_all(b"\x89PNG\r\n\x1a\n" + bytes(100))
