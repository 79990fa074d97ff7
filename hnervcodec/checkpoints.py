"""Unfinished work on the disk: a folder beside the output, so that an interrupted encode, whatever
stopped it, goes on where it was.

    out.hnv.job/
        job.json        what is being encoded, and how; other settings do not go on from here
        N-BUDGET.fit    the running fit of segment N, kept every few seconds
        N-BUDGET.segm   its payload, once finished

Every file appears under its name only when complete.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hnervcodec.errors import HnervError, UsageError
from hnervcodec.files import open_complete_or_absent

INTERVAL = 10.0  # seconds between two checkpoints of a fit: what a power cut may cost


class Job:
    """The work on one output."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def open(cls, output: str | Path, settings: dict[str, Any], resume: bool, anew: bool) -> Job:
        """settings: all that decides the output's bytes, in JSON's types. `resume`: go on with what
        is there, if anything; `anew`: discard it. Neither: refuse to lose it."""
        folder = Path(f"{output}.job")
        described = folder / "job.json"
        if described.exists() and not anew:
            if not resume:
                raise UsageError(
                    f"{folder} holds an unfinished encode: go on with --resume, or discard it "
                    "with -y"
                )
            try:
                begun = json.loads(described.read_text())
                changed = sorted(
                    name for name in {*begun, *settings} if begun.get(name) != settings.get(name)
                )
            except (ValueError, TypeError, AttributeError) as error:
                raise UsageError(f"{described} is damaged: discard it with -y") from error
            if changed:
                name = changed[0]
                raise UsageError(
                    f"{folder} was begun with another {name} ({begun.get(name)!r}, now "
                    f"{settings.get(name)!r}): resume with the same, or discard it with -y"
                )
            return cls(folder)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        with open_complete_or_absent(described) as file:
            file.write(json.dumps(settings, indent=1).encode())
        return cls(folder)

    def checkpoint(self, name: str) -> Path:
        return self.folder / f"{name}.fit"

    def payload(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What `make` gives, now or when it was made before."""
        path = self.folder / f"{name}.segm"
        if not path.exists():
            made = make()
            with open_complete_or_absent(path) as file:
                file.write(made)
            self.checkpoint(name).unlink(missing_ok=True)
        return path.read_bytes()

    @property
    def is_begun(self) -> bool:
        """Whether there is anything that would be lost."""
        return any(path.suffix in (".fit", ".segm") for path in self.folder.iterdir())

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def save(path: Path, state: dict[str, Any]) -> None:
    """state: of plain types and tensors."""
    import torch

    with open_complete_or_absent(path) as file:
        torch.save(state, file)


def load(path: Path) -> dict[str, Any]:
    import torch

    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise HnervError(f"{path} is damaged: remove it, and its fit begins again") from error
    return state
