"""Calls of functions in another process: one that may crash, or several at a time."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any, BinaryIO, ParamSpec, TypeVar, cast

from hnervcodec.errors import HnervError
from hnervcodec.system import standard_streams

P = ParamSpec("P")
R = TypeVar("R")


class Crashed(Exception):
    """The process of a `Worker` has ended before its answer."""


class Worker:
    """A process that calls functions for this one, one after the other, and ends with it.

    They talk through pipes, which nobody else can reach.
    """

    def __init__(self) -> None:
        # Modules come from where we have them, not (-P) from the folder we happen to be in.
        program = "from hnervcodec.system.isolated import _serve; _serve()"
        # Ctrl-C at a terminal reaches every process, but is ours to handle: it inherits this.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def call(
        self, function: Callable[[], R], hear: Callable[[Any], None] = lambda message: None
    ) -> R:
        """Calls `function()` there. It, its result and its exceptions have to be picklable, as
        a `functools.partial` may be. hear: called with what it passes to `tell` meanwhile.

        Crashed if the process has ended. It is closed then, and after an interrupt.
        """
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump(function, process.stdin)
            process.stdin.flush()
            while True:
                kind, value = pickle.load(process.stdout)
                if kind == _RESULT:
                    break
                hear(value)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:  # it died
            self.close()
            raise Crashed(f"exit code {process.returncode}") from error
        except BaseException:
            self.close()  # after an interrupt its answer would be taken for the next call's
            raise
        if isinstance(value, Exception):
            raise value
        return cast(R, value)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be called here."""
        return self._process.returncode is not None

    def kill(self) -> None:
        """Ends the process, whatever it is at; another thread's call is then a `Crashed`."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process, and waits for its end."""
        self.kill()
        with suppress(BrokenPipeError), self._process:
            pass


def run_isolated(name: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls `function(*args, **kwargs)` in another process, so that a crash does not end this one.

    Function, arguments, result and exceptions have to be picklable. x265 was seen to die of a
    segmentation fault on a short clip that it codes well otherwise (a race, see its issue 684):
    what crashed is called once more. HnervError, with the culprit `name`, if it crashes again.
    """
    reason: Crashed | None = None
    for _ in range(2):
        worker = _worker()
        try:
            return worker.call(partial(function, *args, **kwargs))
        except Crashed as error:
            reason = error
        finally:
            if worker.is_closed:
                _worker.cache_clear()
    raise HnervError(f"{name} crashed twice ({reason})") from reason


@cache
def _worker() -> Worker:
    """The one that `run_isolated` uses."""
    return Worker()


# ---------------------------------------------------------------- in the other process

_RESULT, _MESSAGE = range(2)


def tell(message: object) -> None:
    """Passes something picklable to the `hear` of the `Worker.call` that runs this."""
    _send(_MESSAGE, message)


def _serve() -> None:
    """What a worker does: calls functions until the parent is gone."""
    standard_streams.prepare()
    _results()
    os.dup2(2, 1)  # nothing that a library prints may come among the results
    with suppress(EOFError, BrokenPipeError):
        while True:
            _answer(pickle.load(sys.stdin.buffer))


@cache
def _results() -> BinaryIO:
    """The pipe to the parent."""
    return os.fdopen(os.dup(1), "wb")


def _send(kind: int, value: object) -> None:
    pickle.dump((kind, value), _results())
    _results().flush()


def _answer(function: Callable[[], object]) -> None:
    try:
        result = function()
    except Exception as error:
        result = error
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # not every exception travels
            result = HnervError(f"{type(error).__name__}: {error}")
    _send(_RESULT, result)
