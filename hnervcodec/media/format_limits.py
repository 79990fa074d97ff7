"""What output formats do not hold, told before anything is written."""

from __future__ import annotations

from fractions import Fraction

from hnervcodec.bitstream.ancillary import Display
from hnervcodec.bitstream.headers import UNSPECIFIED, VideoHeader
from hnervcodec.media.carrier_times import within_int32
from hnervcodec.media.frames import libav_depth
from hnervcodec.media.muxer_sink import light_parameters
from hnervcodec.media.presentation import Presentation


def loss_notes(name: str, header: VideoHeader, shown: Presentation) -> list[str]:
    """A sentence for each thing that the output format `name` does not hold of the frames and of
    what goes with them, with the options by which ffmpeg gives it back."""
    notes = []
    if name in ("mkv", "webm") and _is_between_milliseconds(shown):
        notes.append(f".{name} holds milliseconds, to which times are rounded; .mp4 is exact")
    num, den = header.sample_aspect
    if name in ("png", "npy", "raw") and num != den:
        notes.append(f".{name} does not hold that samples are {num}:{den} in shape")
    if libav_depth(header.bit_depth) != header.bit_depth and name in ("y4m", "mkv"):
        wide = libav_depth(header.bit_depth)
        notes.append(f".{name} holds samples of {header.bit_depth} bits in {wide}, one bit higher")
    is_turned = (shown.display.rotation, shown.display.mirrored) != (0, False)
    if name in ("png", "gif", "npy", "raw") and is_turned:
        turn = 90 * shown.display.rotation
        mirrored = " and then mirrored" if shown.display.mirrored else ""
        notes.append(
            f".{name} shows frames that are to be turned by {turn} degrees{mirrored} unturned"
        )
    if name == "y4m":
        notes += _y4m_notes(header, shown)
    return notes


def _is_between_milliseconds(shown: Presentation) -> bool:
    """Whether some frames are not shown at a millisecond; players know the times of those at a
    constant rate, unless there are several in a millisecond."""
    if shown.is_constant:
        return shown.time_base < Fraction(1, 1000)
    return any((1000 * pts * shown.time_base).denominator > 1 for pts, _ in shown.stamps)


def _mastering_notes(display: Display) -> list[str]:
    parts = light_parameters(display, "master-display", "max-cll")
    if not parts:
        return []
    flags = f"-x265-params {':'.join(parts)}"
    return [f".y4m does not hold the light levels: ffmpeg {flags} does"]


def _y4m_notes(header: VideoHeader, shown: Presentation) -> list[str]:
    notes = []
    rate, held = header.frame_rate, within_int32(header.frame_rate)
    if rate != held:
        notes.append(f".y4m holds {held} frames per second, the nearest to {rate} that are read")
    codes = {
        "-color_primaries": header.colour_primaries,
        "-color_trc": header.transfer_characteristics,
        "-colorspace": UNSPECIFIED if header.is_rgb else header.matrix_coefficients,
    }
    flags = [f"{flag} {code}" for flag, code in codes.items() if code != UNSPECIFIED]
    turn = f"-display_rotation {90 * shown.display.rotation}"
    turn += " -display_hflip" if shown.display.mirrored else ""
    if header.is_rgb:
        notes.append(".y4m holds no RGB: it becomes Y'CbCr 4:4:4 by BT.601; .mkv is exact")
    if flags:
        notes.append(f".y4m does not hold the colour codes: ffmpeg {' '.join(flags)} does")
    if (shown.display.rotation, shown.display.mirrored) != (0, False):
        notes.append(f".y4m does not hold the rotation: ffmpeg {turn} -i does")
    notes += _mastering_notes(shown.display)
    if not shown.is_constant:
        notes.append(".y4m does not hold timestamps: frames come out at the average rate")
    if shown.streams:
        notes.append(".y4m does not hold sound: .mp4 and .mkv do")
    return notes
