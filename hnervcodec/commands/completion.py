"""`hnv completion`: prints the script that lets a shell complete the command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print a script that completes hnv's options and files.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that lets SHELL complete hnv's commands, options, their values and files.

    \b
    hnv completion bash > ~/.local/share/bash-completion/completions/hnv
    hnv completion zsh > ~/.zfunc/_hnv        with fpath+=~/.zfunc before compinit in ~/.zshrc
    hnv completion fish > ~/.config/fish/completions/hnv.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # as click knows these three
    script = kind(context.find_root().command, {}, "hnv", "_HNV_COMPLETE")
    click.echo(script.source())
