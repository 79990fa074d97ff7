"""`hnv join`: makes one `.hnv` file of several."""

from __future__ import annotations

from contextlib import ExitStack

import click

from hnervcodec.bitstream.reader import Reader
from hnervcodec.commands.files import check_overwrite, naming_file, open_file, open_output
from hnervcodec.commands.options import MAX_LEVEL, OVERWRITE


@click.command(short_help="Put .hnv files one after the other as they are.")
@click.argument("sources", metavar="IN...", type=click.Path(), nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    type=click.Path(),
    help="The .hnv file; - for a pipe.",
)
@MAX_LEVEL
@OVERWRITE
def join(sources: tuple[str, ...], output: str, max_level: int | None, yes: bool, no: bool) -> None:
    """Put .hnv files one after the other, as they are: nothing is decoded or fitted again.

    The files must have one size, pixel format, colour, frame rate and kind of sound. Those of
    hnv encode --segments 1/N to N/N give the very file that one encode of all segments gives.

    \b
    hnv join part1.hnv part2.hnv part3.hnv -o whole.hnv
    """
    from hnervcodec.bitstream.joining import join as joined

    for source in sources:
        check_overwrite(source, output, yes, no)
    with ExitStack() as stack:
        readers = []
        for source in sources:
            file = stack.enter_context(open_file(source))
            with naming_file(source):  # checked here, as what is damaged is only known by name here
                readers.append(Reader(file, max_level=max_level))
                readers[-1].check()
        whole = stack.enter_context(open_output(output))
        frames, size = joined(readers, whole)
    click.echo(f"{output}: {frames} frames in {size:,} bytes", err=True)
