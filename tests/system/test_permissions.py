"""Files and folders that may not be read or written, for root too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import error_of

UNPRIVILEGED = "--bounding-set=-dac_override,-dac_read_search"  # modes hold for root then


def obeying_modes() -> list[str]:
    """What to run a command with so that the modes of files hold."""
    if os.geteuid():
        return []
    if setpriv := shutil.which("setpriv"):
        return [setpriv, UNPRIVILEGED]
    pytest.skip("root reads everything, and there is no setpriv")


@pytest.mark.parametrize(
    "words, code, said",
    [
        ("info secret.hnv", 2, "secret.hnv' is not readable"),
        ("info locked/x.hnv", 6, "cannot open locked/x.hnv: Permission denied"),
        ("decode x.hnv -o shut/y.y4m", 7, "cannot write shut/y.y4m: Permission denied"),
        ("decode x.hnv -o locked/%d.png", 7, "cannot write locked/0.png: Permission denied"),
        ("export x.hnv -o shut/x.html", 7, "cannot write shut/x.html: Permission denied"),
        ("metrics x.hnv locked/y.mkv", 6, "cannot open locked/y.mkv: Permission denied"),
        ("join x.hnv secret.hnv -o a.hnv", 2, "secret.hnv' is not readable"),
    ],
)
def test_told_in_one_line(
    words: str, code: int, said: str, real_file: Path, tmp_path: Path
) -> None:
    for name in ("x.hnv", "secret.hnv"):
        shutil.copy(real_file, tmp_path / name)
    (tmp_path / "secret.hnv").chmod(0)
    for folder, mode in (("shut", 0o555), ("locked", 0)):
        (tmp_path / folder).mkdir(mode)
    command = [*obeying_modes(), sys.executable, "-m", "hnervcodec", *words.split()]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300)
    assert said in error_of(run, code)
    assert {path.name for path in tmp_path.iterdir()} == {"x.hnv", "secret.hnv", "shut", "locked"}
    (tmp_path / "locked").chmod(0o700)
