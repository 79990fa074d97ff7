"""`hnv help`: topics that no single command's --help has room for."""

from __future__ import annotations

import click

RATES = """\
Sizes and qualities

An encode takes one of these, or none for --quality 38:

  --bpp 0.05       bits per pixel: 8 * bytes / (width * height * frames)
  --bitrate 500k   bits per second
  --size 1M        bytes of the whole file, sound and all
  --psnr 36        dB over all samples of a segment, within a few tenths
  --quality 38     constant quality, about 30 (poor) to 45: 6 more are about
                   twice the bytes
  --denoise        as many bytes as best tell the video from its noise

k, M and G are powers of 1000. With the first three the video never exceeds
what was asked for, headers and all, and comes out within 1 % of it, unless the
preset's largest network has no use for so many bytes; hnv says so then. Sound,
subtitles and times of the frames come on top with --bpp and --bitrate; --size
counts them. With --psnr and --quality short trial fits find out what that
takes.

A quality is the PSNR of a video that takes 0.05 bits per pixel for it. Easy
videos get more dB of fewer bits, hard ones the reverse: the same gain in each
for one more byte. x265 comes to 38 to 43 at its default, crf 28.

1280x640 at 25 frames/s and 0.02 bpp are 410 kbit/s. hnv is at its best at low
rates and with slow presets; above about 0.1 bpp a quick one loses to x264 and
x265 by far.

  hnv encode in.mp4 --bpp 0.05 --dry-run    what it would fit, and how long
  hnv metrics in.mp4 out.hnv                what came out
"""

PRESETS = """\
Presets trade time for quality, at the same size

  preset       optimizer steps per frame   decoder, at most
  ultrafast      3                          4 kMAC per pixel
  faster         8                          6
  fast          40                         12
  medium       120                         12   (the default)
  slow         300                         12
  veryslow     750                         16

Frames of less than 160,000 pixels (as 480x320) get up to twice as many steps.
Before them come half as many (ultrafast, faster: as many) at half the size.
Time grows with the steps, the frames and the pixels; --dry-run measures for
some seconds on this machine and says how long the rest would take. An encode
that something stops goes on with --resume, and ends in the same file; one that
is finished is not done again, unless -y asks for that.

--tune psnr looks for squared error alone, as benchmarks of PSNR want it. With
"balanced" the structure that MS-SSIM compares is a tenth of the loss, for a
little PSNR; with --tune ssim it is most of it.
--seed makes another network; with the same seed, machine and threads an encode
makes the same file.
"""

SEGMENTS = """\
Segments: one network each

A video is cut into segments, each with a network of its own: of about 256
frames, or of up to 1024 where the camera stands still and hardly anything else
moves; --segment 100 asks for about 100. Where a change of scene scores at least
--scenecut (10), a segment begins there, if that leaves none shorter than half
of --segment. Scenes are divided evenly, into parts of up to half as many frames
again, rather than leave a short rest.

All segments begin from one short fit to frames of the whole video.

Frames of a segment share its network, so that long segments cost fewer bytes
where the scene stays the same; short ones need less memory to encode, as the
frames of one segment are held. Each decodes on its own: of a file that was
cut or damaged, hnv decode --recover gives the others. Frames between frames
(--fps, --slow-motion) are made within a segment only.

  hnv info x.hnv     the segments, and where the bytes of each went
"""

RANDOM_ACCESS = """\
Any frame, in one forward pass

No frame needs another: frame 100 costs as much as frame 0. A segment's network
is loaded once, the two used last are kept.

  hnv decode x.hnv --frames 7 -o seven.png
  hnv decode x.hnv --frames 10-20 -o part.mkv      both included
  hnv decode x.hnv --frames 10:20:2 -o part.mkv    a Python slice
  hnv decode x.hnv --frames 3,9,20-22 -o %05d.png
  hnv decode x.hnv --frames ::-1 -o backwards.mp4

In Python, in the words of torchcodec's VideoDecoder:

  from hnervcodec import Decoder, FrameDataset
  decoder = Decoder("x.hnv")       a path, bytes, or a seekable file, of which
                                   only what is needed is read (over HTTP too)
  decoder[10]                      uint8 [3, H, W], RGB
  decoder.get_frames_at([3, 9])
  decoder.get_frame_played_at(0.41)
  FrameDataset(["a.hnv", "b.hnv"]) for a DataLoader, also with workers

imageio reads .hnv files after hnervcodec.register_imageio(), once in a
program: iio.imread("x.hnv", index=3).
"""

PIPES = """\
Pipes

- is standard input or output. Video goes through pipes as Y4M:

  hnv decode x.hnv | ffmpeg -i - -c:v libx265 -crf 18 out.mkv
  hnv decode x.hnv | mpv -                         or: hnv play x.hnv
  ffmpeg -i in.mov -f yuv4mpegpipe - | hnv encode - -o x.hnv --bpp 0.05
  ffmpeg -i in.mov -f yuv4mpegpipe -strict -1 - | ...     above 8 bits

Other formats for pipes, with --format: raw (planes one after the other), npy
(one array [T, H, W, 3] in RGB) and framemd5 (a line "INDEX, MD5" per frame).
A file name does without: .y4m .yuv .npy .framemd5 .png .mp4 .mov .mkv .webm
.gif.

Into .mp4 and .mov (H.264), .webm (AV1), .mkv (FFV1, lossless) and .gif, options
for the encoder follow --, as ffmpeg has them; -c:v chooses another encoder:

  hnv decode x.hnv -o x.mp4 -- -c:v libx265 -crf 18 -preset slow
  hnv decode x.hnv -o x.webm -- -c:v libvpx-vp9 -b:v 1M -pix_fmt yuv420p

What is not an encoder's (filters, other containers) is ffmpeg's: pipe there.
A GIF holds times in hundredths of a second, and at most 50 frames per second:
--fps 25 makes one of faster videos too.

Files appear under their name when they are complete. Where the reader closes
the pipe early, as head does, hnv ends quietly with exit code 141. A .hnv file
can come from a pipe, but is then read whole.
"""

MASKS = """\
Masks: what is not to be resembled

hnv encode --mask leaves it to the network what to show there; hnv inpaint puts
that into the source and keeps all other samples. A mask is one of

  logo.png      a picture of the video's size, for all frames
  mask.mkv      a video of its size, with a frame for each of the source's
  boxes.json    [{"x": 0, "y": 0, "width": 50, "height": 50,
                  "first": 0, "last": 9}, ...]

White (at least half) is masked. Boxes are in luma samples, "first" and "last"
are source frames, both included, and may be left out.

  hnv inpaint in.mp4 --mask logo.png -o out.mkv
  hnv encode in.mp4 --mask boxes.json -o out.hnv --bpp 0.05
"""

EXACTNESS = """\
The same bits everywhere

All that decides about a frame is integers: weights, activations, tables. C
code, int8, float32 and float64 arithmetic (--arithmetic) give the same bytes,
with any number of threads; each is tried against a known answer when a file is
opened, and the fastest that passes is used. Every frame has a checksum in the
file. A frame that fails it is not delivered: exit code 3.

  hnv verify x.hnv                      all checksums
  hnv decode x.hnv --format framemd5    to compare two machines
  hnv export x.hnv -o x.onnx            the network, for onnxruntime
  hnv export x.hnv -o x.html            a web page that plays it, frame by frame

Not covered by checksums, though as exact, are frames between coded frames.
RGB is computed from the planes as ffmpeg's swscale does, and is only as exact
as that is; y4m, raw and mkv are the planes themselves.

Encoding is floating-point: same seed, machine and threads, same file.
"""

MACHINES = """\
Many segments at a time

Segments are fitted independently, so that long videos can use every machine
there is. Whoever fits them, the file is the one that a single process makes,
if the processors are alike and --threads (of each fit) is the same.

On this machine, N processes, which share its cores:

  hnv encode in.mp4 -o x.hnv --bpp 0.05 --workers 4

On a Dask cluster, whose workers see IN under the same name; each worker is to
fit one segment at a time (a GPU: --resources GPU=1, and hnv's --device cuda):

  dask scheduler --port 8786
  dask worker tcp://host:8786 --nthreads 1          on each machine
  hnv encode in.mp4 -o x.hnv --bpp 0.05 --cluster tcp://host:8786

What a worker or a process that dies was at goes to another one: from its last
checkpoint, if both see the folder of OUT, else from its beginning. A cluster
needs Dask: pip install hnervcodec[cluster].

Dask trusts whoever reaches its ports: what it sends are Python's pickles, and
so anybody who can connect to a scheduler or a worker can run programs as its
user, and a scheduler can run them on the machine that hnv connects from. Keep
it in a network of your own, or use TLS, with the same certificates everywhere:

  openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=hnv -days 365 \\
      -keyout key.pem -out cert.pem
  export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True
  export DASK_DISTRIBUTED__COMM__TLS__CA_FILE=cert.pem
  for role in SCHEDULER WORKER CLIENT; do
      export DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=cert.pem
      export DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=key.pem
  done
  dask scheduler --host tls:// --port 8786
  dask worker tls://host:8786 --nthreads 1          on each machine
  hnv encode in.mp4 -o x.hnv --bpp 0.05 --cluster tls://host:8786

With nothing but shells, or a Slurm array: N shares, each a .hnv file of its
own, and then one file of them (--dry-run says how many segments there are; a
share beyond them is refused):

  sbatch --array 1-8 --wrap 'hnv encode in.mp4 -o $SLURM_ARRAY_TASK_ID.hnv \\
      --bpp 0.05 --segments $SLURM_ARRAY_TASK_ID/8 --resume'
  hnv join 1.hnv 2.hnv 3.hnv 4.hnv 5.hnv 6.hnv 7.hnv 8.hnv -o x.hnv
"""

MANY = """\
Many videos

Several INs, folders and patterns (in quotes, or left to the shell) become a
.hnv file each, in a folder that is made if it is missing:

  hnv encode clips/ -o out/                     and what is in folders below
  hnv encode 'clips/*.mp4' -o out/ --preset fast --workers 4
  hnv encode a.mp4 b.mp4 c.mkv -o out/

In a folder, videos are told by how their names end (.mp4 .mkv .y4m ...); hidden
files are left out. Files keep the folders that they have not all in common;
a.mp4 becomes a.hnv, or a.mp4.hnv where there is an a.mkv too.

out/manifest.jsonl has a line of JSON for each finished video: name, source,
frames, bytes, psnr (dB), sha256. A video that cannot be encoded does not stop
the others: at the end each has a line, and the exit code is 9. The same command
again does only what is missing, or has changed; with --resume it goes on in the
middle of what was interrupted, to the same files; -y makes all anew.

With --workers each process fits a video at a time, with --cluster up to eight
are at work. --dry-run tries the first video and tells the time of all by their
sizes; --size is of each file.
"""

TOPICS = {
    "rates": RATES, "presets": PRESETS, "segments": SEGMENTS, "random-access": RANDOM_ACCESS,
    "pipes": PIPES, "many": MANY, "machines": MACHINES, "masks": MASKS, "exactness": EXACTNESS,
}  # fmt: skip


@click.command(short_help="Explain rates or pipes or another topic.")
@click.argument("topic", required=False, type=click.Choice(tuple(TOPICS)), metavar="[TOPIC]")
def help(topic: str | None) -> None:
    """Explain TOPIC, or list the topics. For a command's options: hnv COMMAND --help."""
    if topic:
        click.echo(TOPICS[topic], nl=False)
        return
    click.echo("Topics, for hnv help TOPIC:\n")
    for name, text in TOPICS.items():
        click.echo(f"  {name:15}{text.splitlines()[0]}")
    click.echo("\nThe commands and their options: hnv --help, hnv COMMAND --help")
