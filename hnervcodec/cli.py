"""The `hnv` command: runs a subcommand of `commands`, and turns errors into one line and an exit
code. Only this module and `commands` print.

A subcommand's module is imported when it is asked for, and imports heavy libraries inside the
functions that need them: torch loads only where something is computed, libav only where a video
is read or written.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from functools import cache
from importlib import import_module
from typing import Any, NoReturn

import click

from hnervcodec._version import __version__
from hnervcodec.errors import HnervError, OutputError, Terminated, UsageError
from hnervcodec.system import standard_streams

# The subcommands in the order of work, as --help lists them, and the module of `commands` that
# each is in.
MODULES = {
    "encode": "encode",
    "decode": "decode",
    "play": "play",
    "info": "info",
    "verify": "decode",
    "metrics": "metrics",
    "compare": "compare",
    "inpaint": "inpaint",
    "export": "export",
    "serve": "serve",
    "join": "join",
    "help": "help",
    "completion": "completion",
}


def main() -> NoReturn:
    """Entry point of `hnv`: runs a command and maps every failure to an exit code."""
    standard_streams.prepare()
    signal.signal(signal.SIGTERM, _heed)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _heed)
    try:
        code = cli.main(prog_name="hnv", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except (KeyboardInterrupt, click.Abort) as error:
        # click wraps what was said when the interrupt was passed on.
        cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__
        hint = f": {as_flags(str(cause))}" if str(cause or "") else ""
        word, ended = ("terminated", 143) if isinstance(cause, Terminated) else ("interrupted", 130)
        _say(f"{word}{hint}")
    except (_ClosedPipe, BrokenPipeError):
        # The reader has seen enough. Nothing more may be flushed into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except UsageError as error:
        _fail(as_flags(str(error)), error.exit_code)
    except HnervError as error:
        _fail(str(error), error.exit_code)
    except (MemoryError, RuntimeError) as error:
        # torch reports a failed allocation as a RuntimeError.
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        _fail("not enough memory", 1)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _fail(f"{name}{error.strerror or error}", OutputError.exit_code)
    # All is tidied by now. The interpreter's own end would wait for ever for a thread or a lock
    # that the interrupt left behind, and if it came within exec("..."), as dataclasses use it,
    # `python -m` would end by SIGINT whatever our exit code.
    os._exit(ended)


_PARAMETER = re.compile(r"(?<![\w/.-])`(\w+)(?:=(\w+))?`(?![\w/.-])")


@cache
def _flags() -> dict[str, str]:
    """The option of each parameter, by what click calls it."""
    options = (p for command in all_commands().values() for p in command.params)
    flags = {
        p.name: max(p.opts, key=len) for p in options if isinstance(p, click.Option) and p.name
    }
    return {**flags, "format": "--format", "discard": "-y"}


def as_flags(message: str) -> str:
    """Translates a message of the library for the command line: `bpp` becomes --bpp, and
    `audio=none` --audio none. Other words in backquotes, such as file names, stay as they are."""

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        option = _flags().get(name, match[0])
        return option if value in (None, "True") or option == match[0] else f"{option} {value}"

    return _PARAMETER.sub(flag, message)


def _heed(number: int, _: object) -> None:
    """Signal handler: raises Terminated for SIGTERM, KeyboardInterrupt for others. While torch is
    being imported its C++ code would abort on an exception: then it tries again 50 ms later."""
    spec = getattr(sys.modules.get("torch"), "__spec__", None)
    if getattr(spec, "_initializing", False):
        signal.signal(signal.SIGALRM, lambda *_: _heed(number, None))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


class _ClosedPipe(Exception):
    """Carries BrokenPipeError past click, which would turn it into exit code 1."""


class _Group(click.Group):
    """A group whose subcommands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in MODULES and name not in self.commands:
            module = import_module(f"hnervcodec.commands.{MODULES[name]}")
            self.add_command(getattr(module, name))
        return super().get_command(ctx, name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ClosedPipe from error


def _say(message: str) -> None:
    line = "\r\x1b[K" if sys.stderr.isatty() else ""  # clears what progress left there
    click.echo(f"{line}hnv: {message}", err=True)


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    sys.exit(code)


def all_commands() -> dict[str, click.Command]:
    """Every subcommand by its name; imports them all."""
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in commands.items() if command}


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import version

    from hnervcodec.bitstream.container import MAJOR, MINOR
    from hnervcodec.synthesis import native

    # Asking torch which of its arithmetics is exact here would take seconds: `hnv verify` tells.
    arithmetic = native.choice()
    click.echo(
        f"hnv {__version__}, format {MAJOR}.{MINOR}, torch {version('torch')}, "
        f"PyAV {version('av')}, constriction {version('constriction')}, arithmetic {arithmetic}"
    )
    context.exit()


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Versions of the program, the format and the libraries, and the arithmetic in use.",
)
def cli() -> None:
    """A neural video codec: one small network per video, any frame in one forward pass.

    \b
    hnv encode in.mp4                             to in.hnv; minutes to hours, by --preset
    hnv encode in.mp4 -o out.hnv --bpp 0.05       of that size, about
    hnv play in.hnv                               in ffplay or mpv
    hnv info in.hnv                               where every byte went
    hnv decode in.hnv -o - | ffmpeg -i - out.mp4
    hnv decode in.hnv --frames 10-20 -o frames/%05d.png
    hnv verify in.hnv                             checksums of the file and of every frame
    hnv help rates                                what to ask for; hnv help lists other topics

    Exit codes: 0 success, 2 wrong usage, 3 damaged file, 4 needs a newer version, 5 beyond a
    limit, 6 cannot read, 7 cannot write, 9 some of many videos failed, 130 interrupted, 141 closed
    pipe, 143 terminated.
    """
