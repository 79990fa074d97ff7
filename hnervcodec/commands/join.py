"""hnv join"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import click

from hnervcodec.commands.files import check_overwrite, open_file, open_output
from hnervcodec.commands.options import MAX_LEVEL, OVERWRITE
from hnervcodec.container import Reader
from hnervcodec.errors import UsageError


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

    The files must have one size, pixel format, colour and frame rate. Those of hnv encode
    --segments 1/N to N/N give the very file that one encode of all segments gives.

    \b
    hnv join part1.hnv part2.hnv part3.hnv -o whole.hnv
    """
    from hnervcodec import container, segment

    for source in sources:
        check_overwrite(source, output, yes, no)
    with ExitStack() as stack:
        readers = [
            Reader(stack.enter_context(open_file(source)), max_level=max_level)
            for source in sources
        ]
        videos = [replace(reader.video, frame_count=0) for reader in readers]
        for source, video in zip(sources, videos, strict=True):
            if video != videos[0]:
                raise UsageError(
                    f"{sources[0]} and {source} differ in size, pixel format, colour or frame rate"
                )
        level = max((reader.level for reader in readers), key=lambda level: level.number)
        file = stack.enter_context(open_output(output))
        assert file is not None
        writer = container.Writer(file, videos[0], level)
        for reader in readers:
            for entry in reader.index:
                payload = segment.moved(reader.segment_payload(entry), writer.frame_count)
                writer.segment(payload, entry.frame_count)
        size = writer.finish()
    click.echo(f"{output}: {writer.frame_count} frames in {size:,} bytes", err=True)
