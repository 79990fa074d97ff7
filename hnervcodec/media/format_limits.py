"""What output formats do not hold, told before anything is written."""

from __future__ import annotations

from hnervcodec.bitstream.ancillary import Display
from hnervcodec.bitstream.headers import UNSPECIFIED, VideoHeader
from hnervcodec.media.muxer_sink import light_parameters
from hnervcodec.media.presentation import Presentation


def loss_notes(name: str, header: VideoHeader, shown: Presentation) -> list[str]:
    """A sentence for each thing that the output format `name` does not hold of the frames and of
    what goes with them, with the options by which ffmpeg gives it back."""
    notes = []
    if name == "mkv":
        odd = [pts for pts, _ in _list(shown) if (1000 * pts * shown.time_base).denominator > 1]
        if odd and not shown.is_constant:
            notes.append(".mkv holds milliseconds, to which times are rounded; .mp4 is exact")
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


def _list(shown: Presentation) -> list[tuple[int, int]]:
    return [] if shown.is_constant else list(shown.stamps)


def _mastering_notes(display: Display) -> list[str]:
    parts = light_parameters(display, "master-display", "max-cll")
    if not parts:
        return []
    flags = f"-x265-params {':'.join(parts)}"
    return [f".y4m does not hold the light levels: ffmpeg {flags} does"]


def _y4m_notes(header: VideoHeader, shown: Presentation) -> list[str]:
    notes = []
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
