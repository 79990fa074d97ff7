"""What is remembered of finished encodes, so that none is done again that nothing has changed of.

A record of each lies in the user's cache, as long as its output lies where it was made.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hnervcodec._version import __version__
from hnervcodec.encoding.file_input import identity
from hnervcodec.system.atomic_files import open_complete_or_absent
from hnervcodec.system.cache import cache_folder

_ENDING = ".finished"  # of a record's name


def remember(output: str, facts: dict[str, Any]) -> None:
    """Keeps what made the file `output`, and forgets that of files that have changed or are gone.

    facts: all that decides the output's bytes, in JSON's types. OSError or OutputError if nothing
    can be kept.
    """
    folder = cache_folder()
    for path in folder.glob(f"*{_ENDING}"):
        if not _is_current(path):
            path.unlink(missing_ok=True)
    with open_complete_or_absent(folder / _name(output)) as file:
        file.write(json.dumps(_record(output, facts)).encode())


def is_finished(output: str, facts: dict[str, Any]) -> bool:
    """Whether the file `output` is what an encode with these facts made, and unchanged."""
    with suppress(OSError, ValueError):
        known: object = json.loads((cache_folder() / _name(output)).read_text())
        sources = facts["source"], *(facts.get("mask") or ())
        return None not in sources and known == _record(output, facts)
    return False


def with_versions(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts, and the versions of what makes the bytes of them."""
    return {**facts, "hnv": __version__, "torch": version("torch")}


def _is_current(record: Path) -> bool:
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(record.read_text())
        return bool(known["output"] == identity(known["path"]))
    return False


def _name(output: str) -> str:
    return hashlib.sha256(os.fsencode(os.path.abspath(output))).hexdigest()[:32] + _ENDING


def _record(output: str, facts: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(json.dumps(with_versions(facts)))
    return record | {"path": os.path.abspath(output), "output": identity(output)}
