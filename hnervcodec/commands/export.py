"""`hnv export`: writes a segment's network as ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from hnervcodec.bitstream.reader import Reader
from hnervcodec.commands.files import check_overwrite, naming_file, open_file
from hnervcodec.commands.options import MAX_LEVEL, OVERWRITE
from hnervcodec.errors import UsageError


@click.command(
    short_help="Write a segment's network as an ONNX graph.",
    epilog="See also: hnv help exactness.",
)
@click.argument("source", metavar="IN", type=click.Path())
@click.option(
    "-o", "--output", required=True, metavar="OUT", type=click.Path(), help="The .onnx file."
)
@click.option("--segment", type=click.IntRange(0), default=0, help="Which segment's network.")
@click.option(
    "--integers", is_flag=True, help="Convolve by ConvInteger; default: float32, as exact here."
)
@MAX_LEVEL
@OVERWRITE
def export(
    source: str,
    output: str,
    segment: int,
    integers: bool,
    max_level: int | None,
    yes: bool,
    no: bool,
) -> None:
    """Write a segment's network as an ONNX graph, and its embeddings beside it as .npy.

    The graph takes embeddings, uint8 [B, C, h, w], and gives planes y, cb and cr, [B, H, W]. All it
    computes are integers that float32 holds exactly, so its samples are those of hnv decode in any
    runtime that rounds as it should. Half-precision runtimes do not.

    \b
    hnv export x.hnv -o x.onnx      writes x.onnx and x.npy
    """
    if not output.endswith(".onnx"):
        raise UsageError(f"{output!r} does not end in .onnx")
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
