"""Calls of functions that may crash, in a process of their own."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, BinaryIO, ParamSpec, TypeVar, cast

from hnervcodec.errors import HnervError

P = ParamSpec("P")
R = TypeVar("R")


def run_isolated(name: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls `function(*args, **kwargs)` in another process, so that a crash does not end this one.

    Function, arguments, result and exceptions have to be picklable. x265 was seen to die of a
    segmentation fault on a short clip that it codes well otherwise (a race, see its issue 684):
    what crashed is called once more. HnervError, with the culprit `name`, if it crashes again.
    """
    for _ in range(2):
        worker = _worker()
        assert worker.stdin is not None and worker.stdout is not None
        try:
            pickle.dump((function, args, kwargs), worker.stdin)
            worker.stdin.flush()
            result = pickle.load(worker.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):  # it died
            _forget(worker)
            continue
        except BaseException:
            _forget(worker)  # after an interrupt its answer would be taken for the next call's
            raise
        if isinstance(result, Exception):
            raise result
        return cast(R, result)
    raise HnervError(f"{name} crashed twice (exit code {worker.returncode})")


@cache
def _worker() -> subprocess.Popen[bytes]:
    # Modules come from where we have them, not (-P) from the folder we happen to be in.
    command = [
        sys.executable,
        "-P",
        "-c",
        "from hnervcodec.system.isolated import _serve; _serve()",
    ]
    # Ctrl-C at a terminal reaches every process, but is ours to handle: the worker inherits this.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forget(worker: subprocess.Popen[bytes]) -> None:
    _worker.cache_clear()
    worker.kill()
    with suppress(BrokenPipeError), worker:
        pass


def _serve() -> None:
    """What the worker does: calls functions until the parent is gone."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints may come among the results
    with suppress(EOFError, BrokenPipeError):
        while True:
            _answer(pickle.load(sys.stdin.buffer), results)


def _answer(request: tuple[Callable[..., object], Any, Any], results: BinaryIO) -> None:
    function, args, kwargs = request
    try:
        result = function(*args, **kwargs)
    except Exception as error:
        result = error
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # not every exception travels
            result = HnervError(f"{type(error).__name__}: {error}")
    pickle.dump(result, results)
    results.flush()
