"""`hnv export`: writes a page that plays the file, or a segment's network as ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from hnervcodec.bitstream.reader import Reader
from hnervcodec.commands.files import check_overwrite, naming_file, open_file
from hnervcodec.commands.options import MAX_LEVEL, OVERWRITE
from hnervcodec.errors import UsageError


@click.command(
    short_help="Write a web page that plays the file, or a network as ONNX.",
    epilog="See also: hnv help exactness.",
)
@click.argument("source", metavar="IN", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    type=click.Path(),
    help="The .html or .onnx file.",
)
@click.option(
    "--segment", type=click.IntRange(0), help="ONNX: which segment's network; default: the first's."
)
@click.option(
    "--integers",
    is_flag=True,
    help="ONNX: convolve by ConvInteger; default: float32, as exact here.",
)
@MAX_LEVEL
@OVERWRITE
def export(
    source: str,
    output: str,
    segment: int | None,
    integers: bool,
    max_level: int | None,
    yes: bool,
    no: bool,
) -> None:
    """Write a web page that plays the file, or a segment's network as an ONNX graph.

    The page holds the video and its decoder, and needs nothing else: it plays from a disk, out of
    an e-mail or from any web server, and asks no other for anything.

    The graph, with the embeddings beside it as .npy, takes embeddings, uint8 [B, C, h, w], and
    gives planes y, cb and cr, [B, H, W]. All it computes are integers that float32 holds exactly,
    so its samples are those of hnv decode in any runtime that rounds as it should. Half-precision
    runtimes do not.

    \b
    hnv export x.hnv -o x.html      a page to open or to send
    hnv export x.hnv -o x.onnx      writes x.onnx and x.npy
    """
    if output.endswith(".html"):
        if segment is not None or integers:
            raise UsageError("--segment and --integers are for .onnx")
        export_page(source, output, max_level, yes, no)
    elif output.endswith(".onnx"):
        export_network(source, output, segment or 0, integers, max_level, yes, no)
    else:
        raise UsageError(f"{output!r} ends neither in .html nor in .onnx")


def export_page(source: str, output: str, max_level: int | None, yes: bool, no: bool) -> None:
    """A page with everything in it."""
    from hnervcodec.player.page import alone
    from hnervcodec.system.atomic_files import open_complete_or_absent

    with naming_file(source), open_file(source) as file:
        reader = Reader(file, max_level=max_level)
        reader.check()
        check_overwrite(source, output, yes, no)
        file.seek(0)
        video = file.read()
    page = alone(video, "video.hnv" if source == "-" else Path(source).name).encode()
    with open_complete_or_absent(output) as sink:
        sink.write(page)
    click.echo(f"{output}: {len(page):,} bytes, of which the video takes {len(video):,}", err=True)


def export_network(
    source: str,
    output: str,
    segment: int,
    integers: bool,
    max_level: int | None,
    yes: bool,
    no: bool,
) -> None:
    """A segment's network as ONNX, and its embeddings."""
    with naming_file(source), open_file(source) as file:
        reader = Reader(file, max_level=max_level)
        if segment >= len(reader.index):
            raise UsageError(f"segment {segment}: the last one is {len(reader.index) - 1}")
        embeddings = str(Path(output).with_suffix(".npy"))
        for path in (output, embeddings):
            check_overwrite(source, path, yes, no)
        try:
            from hnervcodec.synthesis.onnx_graph import to_onnx
        except ImportError as error:
            raise UsageError("exporting needs onnx: pip install hnervcodec[onnx]") from error
        import numpy as np

        from hnervcodec.bitstream import segment as segments
        from hnervcodec.system.atomic_files import open_complete_or_absent

        entry = reader.index[segment]
        read = segments.read(reader.segment_payload(entry), reader.video, reader.level)
        model = to_onnx(read, reader.video, integers)
        with open_complete_or_absent(embeddings) as sink, open_complete_or_absent(output) as graph:
            np.save(sink, read.embedding)
            graph.write(model.SerializeToString())
    click.echo(
        f"{output}: {sum(spec.weights for spec in read.specs):,} weights; {embeddings}: "
        f"frames {entry.first_frame}-{entry.first_frame + read.frame_count - 1}",
        err=True,
    )
