"""Where things are, and ways to run the command as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from hnervcodec.bitstream import levels

ROOT = Path(__file__).resolve().parents[2]
EXCERPT = ROOT / "tests/data/bunny.mp4"  # of Big Buck Bunny
LEVEL = levels.LEVELS[10]
Args = list[str | Path]  # what subprocess runs


def hnv(
    *arguments: object, check: bool = True, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command as a user would; `check` expects success."""
    environment = {**os.environ, **options.pop("env", {})}
    run = subprocess.run(
        [sys.executable, "-m", "hnervcodec", *map(str, arguments)],
        capture_output=True,
        env=environment,
        timeout=300,
        **options,
    )
    if check:
        assert run.returncode == 0, run.stderr.decode()
    return run


def heed_interrupts() -> None:
    """For `preexec_fn`: a shell's background job, as CI may be, hands down an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def error_of(run: subprocess.CompletedProcess[bytes], code: int) -> str:
    """The one line on stderr of a run that must have failed with `code`."""
    text = run.stderr.decode()
    assert run.returncode == code, text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1, text
    assert text.startswith("hnv: ")
    return text
