"""Unfinished and finished encodes of files to files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hnervcodec
from hnervcodec.errors import OutputError, UsageError
from hnervcodec.files import cache_folder, open_complete_or_absent


@contextmanager
def unfinished(
    source: str, output: str | None, resume: bool, anew: bool, facts: dict[str, Any]
) -> Iterator[Path | None]:
    """The folder in which the encode of a file to a file keeps its work; removed when it is
    complete. `facts`: all that decides the output's bytes."""
    is_new = output is not None and output != "-" and not os.path.exists(output)
    to_file = is_new or (output is not None and os.path.isfile(output))
    if output is None or not to_file or not os.path.isfile(source):
        if resume:
            raise UsageError("--resume works from a file to a file, not with pipes or --dry-run")
        yield None
        return
    if not Path(output).absolute().parent.is_dir():
        raise OutputError(f"cannot write {output}: no such folder")
    from hnervcodec.checkpoints import Job

    work = Job.open(output, _with_versions(facts), resume, anew and not resume)
    is_finished = False
    try:
        yield work.folder
        is_finished = True
    except KeyboardInterrupt as error:
        if not work.is_begun:
            raise
        raise type(error)("the same command with --resume goes on from here") from None
    finally:
        work.close(is_finished)
    with suppress(OSError, OutputError), open_complete_or_absent(_record_of(output)) as file:
        file.write(json.dumps(_record(output, facts)).encode())


def is_finished(output: str, facts: dict[str, Any]) -> bool:
    """Whether `output` is what an encode with these facts made here, and unchanged."""
    with suppress(OSError, ValueError):
        known: object = json.loads(_record_of(output).read_text())
        sources = facts["source"], *(facts.get("mask") or ())
        return None not in sources and known == _record(output, facts)
    return False


def _record_of(output: str) -> Path:
    name = hashlib.sha256(os.path.abspath(output).encode()).hexdigest()[:32]
    return cache_folder() / f"{name}.finished"


def _record(output: str, facts: dict[str, Any]) -> dict[str, Any]:
    from hnervcodec.footage import identity

    record: dict[str, Any] = json.loads(json.dumps(_with_versions(facts)))
    return record | {"output": identity(output)}


def _with_versions(facts: dict[str, Any]) -> dict[str, Any]:
    from importlib.metadata import version

    return {**facts, "hnv": hnervcodec.__version__, "torch": version("torch")}
