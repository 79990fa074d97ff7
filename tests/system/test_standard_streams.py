"""Commands that are started without standard input, output or errors."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from running import error_of


def run(folder: Path, words: str) -> subprocess.CompletedProcess[bytes]:
    """`hnv` with these words and redirections, as a shell has them."""
    command = f"{shlex.quote(sys.executable)} -m hnervcodec {words}"
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("info small.hnv >&-", 7, "standard output: it is closed"),
        ("help rates >&-", 7, "standard output: it is closed"),
        ("info - <&-", 6, "standard input is closed"),
        ("info none.hnv >&-", 6, "none.hnv"),
    ],
)
def test_what_needs_a_closed_stream_says_so(
    small_file: Path, words: str, code: int, said: str
) -> None:
    assert said in error_of(run(small_file.parent, words), code)


def test_what_is_said_to_closed_errors_is_lost(small_file: Path) -> None:
    expected = run(small_file.parent, "info small.hnv")
    assert run(small_file.parent, "info small.hnv 2>&-").stdout == expected.stdout != b""
    failed = run(small_file.parent, "info none.hnv 2>&-")
    assert (failed.returncode, failed.stdout, failed.stderr) == (6, b"", b"")


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_files_do_not_become_standard_streams(
    small_file: Path, real_source: Path, closed: str
) -> None:
    folder = small_file.parent
    expected = run(folder, "decode small.hnv -o open.y4m -q")
    assert expected.returncode == 0
    made = run(folder, f"decode small.hnv -o closed.y4m {closed}")
    assert made.returncode == 0
    assert (folder / "closed.y4m").read_bytes() == (folder / "open.y4m").read_bytes()
    assert run(folder, "decode small.hnv -o - >&-").returncode == 7


@pytest.mark.slow
def test_an_encode_without_any(real_source: Path, tmp_path: Path) -> None:
    options = "--bpp 2 --preset ultrafast --threads 1 --limit 3"
    for name, closed in (("open.hnv", ""), ("closed.hnv", ">&- 2>&- <&-")):
        made = run(tmp_path, f"encode {real_source} -o {name} {options} {closed}")
        assert made.returncode == 0
    assert (tmp_path / "open.hnv").read_bytes() == (tmp_path / "closed.hnv").read_bytes()
    assert "closed" in error_of(run(tmp_path, f"encode - -o x.hnv {options} -q <&-"), 6)
    assert "closed" in error_of(run(tmp_path, f"encode {real_source} -o - {options} -q >&-"), 7)
    assert sorted(os.listdir(tmp_path)) == ["closed.hnv", "open.hnv"]
