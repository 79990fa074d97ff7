"""Product, reference decoder and vectors agree: on every byte of what is valid, and on why the
rest is refused."""

import ast
import hashlib
import json
import subprocess
import sys
import types
from fractions import Fraction
from pathlib import Path

import make_vectors
import pytest
import refdec
from running import ROOT, hnv

from hnervcodec import cli
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.errors import FileError, HnervError, LimitError, UnsupportedError
from hnervcodec.planes import plane_bytes

VECTORS = ROOT / "spec/vectors"
FILES = sorted(VECTORS.glob("*/*.hnv"))
CLASSES: dict[str, type[HnervError]] = {
    "damaged": FileError,
    "unsupported": UnsupportedError,
    "limit": LimitError,
}


def expected_of(path: Path) -> list[str] | str:
    facts = json.loads(path.with_suffix(".json").read_text())
    expected: list[str] | str = facts["error" if path.parent.name == "faulty" else "md5"]
    return expected


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def by_product(data: bytes) -> list[str] | str:
    """MD5s of all frames, or the class of the error, from a reading of the whole file."""
    try:
        with Decoder(data) as decoder:
            decoder.reader.check()
            return [md5(plane_bytes(p)) for _, p in decoder.frames(range(len(decoder)))]
    except HnervError as error:
        return next(name for name, kind in CLASSES.items() if isinstance(error, kind))


def by_reference(data: bytes) -> list[str] | str:
    try:
        return [md5(frame) for frame in refdec.decode(data)]
    except refdec.Faulty as error:
        return error.kind


@pytest.mark.slow
def test_every_vector(capsys: pytest.CaptureFixture[str]) -> None:
    for path in FILES:
        expected, data = expected_of(path), path.read_bytes()
        assert by_product(data) == expected, path.name
        assert by_reference(data) == expected, path.name
    with capsys.disabled():
        print(f" {len(FILES)} files verified", end="")
    assert len(FILES) > 200


def test_decode_refuses_every_faulty_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All frames: the file is read as a whole. A selection of frames is random access."""
    codes = {name: kind.exit_code for name, kind in CLASSES.items()}
    out = tmp_path / "out.y4m"

    def decode(path: Path, *more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hnv", "decode", str(path), "-q", "-o", str(out), *more])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0)

    faulty = [path for path in FILES if path.parent.name == "faulty"]
    assert len(faulty) > 150
    for path in faulty:
        capsys.readouterr()
        assert decode(path) == codes[str(expected_of(path))], path.name
        assert capsys.readouterr().err.count("\n") == 1, path.name
        assert not out.exists()
    assert decode(VECTORS / "faulty/serial.hnv", "--frames", "0") == 0 and out.exists()


MISREADINGS = [  # of the specification, as changes to the reference decoder
    ("if incompatible_flags:", "if False:"),
    ("if kind[0].isupper() and kind not in ORDER:", "if False:"),
    ("if declared != serial:", "if False:"),
    ("if previous not in ORDER[kind]:", "if False:"),
    ('if r.u32("payload_crc") != crc32(payload):', 'if r.u32("x") and False:'),
    ("if offset != len(data):", "if False:"),
    ("if entries != segments:", "if False:"),
    ("2: [(2, 2), (2, 1), (2, 1)]", "2: [(2, 2), (1, 2), (1, 2)]"),
    ("ceil_div(video.height * rows, 2)", "video.height * rows // 2"),
    ('"u1" if bit_depth == 8 else "<u2"', '"u1" if bit_depth == 8 else ">u2"'),
    ("(31 - (decay % 16))", "(31 - (decay % 17))"),
    ("(11 - decay // 16)", "(11 - decay // 17)"),
    ("(2 * zero + 1) << 15", "(2 * zero) << 15"),
    ("if self.range < 1 << 32:", "if self.range < 1 << 31:"),
    ("e[1:, c] = e[0, c] + np.cumsum(steps, axis=0)", "e[1:, c] = e[0, c] + steps"),
    ("if e.min() < 0 or e.max() > 255:", "if False:"),
    ("    coded.end()", "    pass"),
    (
        ' >= 1 << 24:\n            raise Damaged(f"SEGM: the acc',
        ' > 1 << 24:\n            raise Damaged(f"SEGM: the acc',
    ),
    ("max(z, 255 - z)", "z"),
    (
        "np.abs((p.biases << p.bias_shift) + ((1 << p.shift) >> 1))",
        "np.abs(p.biases << p.bias_shift)",
    ),
    ("np.pad(a - z,", 'z * 0 + np.pad(a, mode="edge", pad_width='),
    ("transpose(0, 3, 1, 4, 2)", "transpose(0, 3, 2, 4, 1)"),
    ("np.clip(t, -2048, 2047)", "np.clip(t, -2049, 2047)"),
    ("np.clip(t, -2048, 2047)", "np.clip(t, -2048, 2048)"),
    ("np.clip(t, -8192, 8191)", "np.clip(t, -8192, 8192)"),
    ("t * p.multiplier + 512", "t * p.multiplier + 511"),
    ("(g * p.gain + 2048) >> 12", "(g * p.gain + 2047) >> 12"),
    ("np.clip(fine + d, 0, 4080)", "np.clip(fine + d, 0, 4095)"),
    ("(fine + 8) >> 4", "(fine + 7) >> 4"),
    ("(1 << (23 - bit_depth))", "(1 << (22 - bit_depth))"),
    ("np.minimum(np.abs(u), 4095)", "np.minimum(np.abs(u), 1023)"),
    ("16 * isqrt(self.luma_samples)", "15 * isqrt(self.luma_samples)"),
    ("min(32 * n, 1 << 26)", "32 * n"),
    ("written, 16 * n", "written, 16 * n - 1"),
]


def misread(right: str, wrong: str) -> types.ModuleType:
    """The reference decoder with a change."""
    path = ROOT / "spec/refdec.py"
    source = path.read_text()
    assert right in source
    module = types.ModuleType("misread")
    module.__file__ = str(path)
    sys.modules["misread"] = module  # where dataclasses look for it
    exec(compile(source.replace(right, wrong), "misread", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize(("right", "wrong"), MISREADINGS)
@pytest.mark.slow
def test_vectors_notice_a_misreading(right: str, wrong: str) -> None:
    module = misread(right, wrong)
    assert any(by_misreading(module, path) != expected_of(path) for path in FILES)


FAULTS = [  # vectors with one fault, and what makes the reference decoder miss it
    ("stream-late", "elif chunk.kind in PLACES and previous != PLACES[chunk.kind]:", "elif False:"),
    ("times-late", "elif chunk.kind in PLACES and previous != PLACES[chunk.kind]:", "elif False:"),
    ("sv-large", "self.uv(element, 0, 2**54 - 1)", "self.uv(element)"),
    ("stream-private-long", 'r.u32("private_size", 0, 2**20)', 'r.u32("private_size")'),
    ("streams-65", "or streams > 64", "or False"),
    ("index-early", "if previous not in ORDER[kind]:", "if False:"),
    ("segm-frame_count-sound", 'raise Damaged("INDX does not list the segments")', "pass"),
    ("vhdr-other-size-same-network", "if crc32(planes) != frame_crc:", "if False:"),
]


@pytest.mark.parametrize(("name", "right", "wrong"), FAULTS)
def test_a_vector_has_one_fault_only(name: str, right: str, wrong: str) -> None:
    path = VECTORS / f"faulty/{name}.hnv"
    assert by_reference(path.read_bytes()) == "damaged"
    assert isinstance(by_misreading(misread(right, wrong), path), list)


def test_frames_between_frames() -> None:
    path = VECTORS / "valid/between.hnv"
    data = path.read_bytes()
    moments = json.loads(path.with_suffix(".json").read_text())["between"]
    level, chunks = refdec.read_prefix(data), list(refdec.read_chunks(data))
    video = refdec.read_video_header(chunks[0].payload, level)
    payloads = [chunk.payload for chunk in chunks if chunk.kind == "SEGM"]
    segments = [refdec.read_segment(payload, video, level) for payload in payloads]
    with Decoder(data) as decoder:
        for n, p, q, expected in (moment.values() for moment in moments):
            [(_, planes)] = decoder.frames([n + Fraction(p, q)])
            assert md5(plane_bytes(planes)) == expected
            part = segments[n >= segments[1].first_frame]
            embedding = refdec.between(part, n - part.first_frame, p, q)
            packed = refdec.synthesize(part, embedding, video.bit_depth)
            assert md5(refdec.plane_bytes(refdec.unpack(packed, video), 8)) == expected


def by_misreading(decoder: types.ModuleType, path: Path) -> list[str] | str:
    try:
        return [md5(frame) for frame in decoder.decode(path.read_bytes())]
    except decoder.Faulty as error:
        return str(error.kind)
    except Exception as error:  # a decoder that falls over has noticed, too
        return repr(error)


@pytest.mark.slow
def test_vectors_are_what_their_maker_makes() -> None:
    """The bytes we write have not changed, and nobody edited a vector by hand."""
    for folder, vectors in (("valid", make_vectors.valid()), ("faulty", make_vectors.faulty())):
        made = {f"{vector.name}.hnv": vector.data for vector in vectors}
        stored = {path.name: path.read_bytes() for path in (VECTORS / folder).glob("*.hnv")}
        stored.pop("real-bunny.hnv", None)  # of a fit, which differs between machines
        assert made == stored
    listed = (VECTORS / "README.md").read_text()
    assert all(f"| {path.stem} |" in listed for path in FILES)
    assert sum(path.stat().st_size for path in VECTORS.glob("*/*")) < 2_000_000


def test_reference_decoder_shares_no_code() -> None:
    tree = ast.parse((ROOT / "spec/refdec.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
    }
    assert imported <= sys.stdlib_module_names | {"numpy"}


def refdec_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "spec/refdec.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


@pytest.mark.slow
def test_reference_decoder_s_lines_are_the_product_s(real_file: Path, tmp_path: Path) -> None:
    theirs = refdec_command(real_file, "-o", tmp_path / "out.yuv")
    assert theirs.returncode == 0, theirs.stderr
    assert (
        hnv("decode", real_file, "--format", "framemd5", "-o", "-").stdout.decode() == theirs.stdout
    )
    hnv("decode", real_file, "-o", tmp_path / "ours.yuv")
    assert (tmp_path / "out.yuv").read_bytes() == (tmp_path / "ours.yuv").read_bytes()


def test_reference_decoder_refuses_in_one_line(tmp_path: Path) -> None:
    for name, kind in (("limit-luma", "limit"), ("trailing-byte", "damaged"), ("empty", "damaged")):
        run = refdec_command(VECTORS / f"faulty/{name}.hnv", "-o", tmp_path / "out.yuv")
        assert run.returncode == 3 and run.stdout == ""
        assert run.stderr.startswith(f"refdec: {kind}: ") and run.stderr.count("\n") == 1
        assert not (tmp_path / "out.yuv").exists()
    assert refdec_command(tmp_path / "absent.hnv").returncode == 1


def test_info_refuses_quickly_and_without_torch() -> None:
    """In one process, as importing Python and click takes longer than any of these files."""
    script = """
import sys, time
from pathlib import Path
from hnervcodec.commands.info import describe
from hnervcodec.bitstream.reader import Reader
from hnervcodec.errors import HnervError
slowest = 0.0
for path in sorted(Path(sys.argv[1]).glob("*.hnv")):
    start = time.monotonic()
    try:
        with open(path, "rb") as file:
            describe(Reader(file))
    except HnervError:
        pass
    slowest = max(slowest, time.monotonic() - start)
assert "torch" not in sys.modules
assert slowest < 0.5, slowest
"""
    subprocess.run([sys.executable, "-c", script, str(VECTORS / "faulty")], check=True)
