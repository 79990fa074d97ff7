"""`hnv serve`: plays `.hnv` files in a browser on this machine."""

from __future__ import annotations

import click

from hnervcodec.errors import Terminated


@click.command(short_help="Play .hnv files in a browser on this machine.")
@click.argument("path", metavar="[FOLDER|FILE]", default=".", type=click.Path())
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Where to listen on 127.0.0.1; 0: any port that is free.",
)
@click.option("--open", "opened", is_flag=True, help="Open a browser, too.")
def serve(path: str, port: int, opened: bool) -> None:
    """List the .hnv files of a folder on a local web page, and play them there.

    Files are read by parts: the index, then a segment at a time. Only browsers on this machine are
    answered. Ctrl-C ends the command.

    \b
    hnv serve                       the files of this folder and those below it
    hnv serve x.hnv --open
    """
    from hnervcodec.player.server import PlayerServer

    try:
        with PlayerServer(path, port) as server:
            click.echo(f"{server.address} (Ctrl-C ends)", err=True)
            if opened:
                import webbrowser

                webbrowser.open(server.address)
            server.serve_forever()
    except Terminated:
        raise
    except KeyboardInterrupt:
        return
