"""Product, reference decoder and vectors agree: on every byte of what is valid, and on why the
rest is refused."""

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import make_vectors
import pytest
import refdec
from conftest import ROOT, hnv

from hnervcodec.decoder import Decoder
from hnervcodec.errors import FileError, HnervError, LimitError, UnsupportedError
from hnervcodec.planes import plane_bytes

VECTORS = ROOT / "spec/vectors"
FILES = sorted(VECTORS.glob("*/*.hnv"))
CLASSES = {"damaged": FileError, "unsupported": UnsupportedError, "limit": LimitError}


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


def test_every_vector(capsys: pytest.CaptureFixture[str]) -> None:
    for path in FILES:
        facts = json.loads(path.with_suffix(".json").read_text())
        expected = facts["error"] if path.parent.name == "faulty" else facts["md5"]
        data = path.read_bytes()
        assert by_product(data) == expected, path.name
        assert by_reference(data) == expected, path.name
    with capsys.disabled():
        print(f" {len(FILES)} files verified", end="")
    assert len(FILES) > 200


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
        for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import)
                     else [node.module or ""])
    }  # fmt: skip
    assert imported <= sys.stdlib_module_names | {"numpy"}


def refdec_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "spec/refdec.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


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
from hnervcodec.cli import describe
from hnervcodec.container import Reader
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
