"""Commands at a terminal that does not say how wide it is, and for a user whom nobody knows."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest


def at_terminal(*words: str | Path, columns: int, folder: Path) -> tuple[int, str]:
    """Exit code of a command, and what it prints to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 0, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    run = subprocess.Popen(
        [sys.executable, "-m", "hnervcodec", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        cwd=folder,
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # nobody writes to it any more
        pass
    os.close(ours)
    return run.wait(timeout=60), said.decode()


@pytest.mark.parametrize("columns", [0, 1])
def test_a_terminal_of_no_width(small_file: Path, columns: int) -> None:
    folder = small_file.parent
    code, said = at_terminal("decode", "--help", columns=columns, folder=folder)
    assert code == 0 and "Usage: hnv decode" in said and "--recover" in said
    code, said = at_terminal("decode", small_file, "-o", "x.y4m", columns=columns, folder=folder)
    assert code == 0 and "5/5 frames" in said and "Traceback" not in said
    code, said = at_terminal("decode", small_file, "-o", "-", columns=columns, folder=folder)
    assert code == 2 and "not written to a terminal" in said


NOBODY = """
import pwd
def unknown(number):
    raise KeyError(number)
pwd.getpwuid = unknown
if __name__ == "__main__":
    from hnervcodec import cli
    cli.main()
"""


def test_a_user_without_a_home_or_a_name(small_file: Path) -> None:
    folder, lacking = small_file.parent, ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME")
    environment = {name: value for name, value in os.environ.items() if name not in lacking}
    command = [sys.executable, "-c", NOBODY, "decode", "small.hnv", "-o", "x.y4m", "-q"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert sorted(os.listdir(folder)) == ["small.hnv", "x.y4m"]
