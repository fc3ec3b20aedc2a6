"""Pictures and videos of an event file: the work behind `evsim view`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2

from evsim import view
from evsim.errors import InputError
from evsim.files import atomic_output
from evsim.formats import Recording

VIDEO_SUFFIXES = (".webm", ".mp4", ".avi", ".mkv", ".mov")


def view_recording(
    recording: Recording,
    output: Path,
    *,
    panels: int = 8,
    window_us: int | None = None,
    fps: float = 30.0,
    slow: float = 1.0,
    rate: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a contact sheet (.png), the event-rate plot (.png, .svg, .pdf) or a video, by suffix of `output`.

    window_us: microseconds of events per panel or video frame, None for a fitting length.
    slow: the video plays this many times slower. Returns names and values to print; InputError for a suffix
    that is neither picture nor video.
    """
    suffix = output.suffix.lower()
    if rate:
        with atomic_output(output, overwrite=overwrite) as temporary:
            view.rate_plot(recording).savefig(temporary)
        return {"output": str(output), "kind": "event rate"}
    if suffix in VIDEO_SUFFIXES:
        frames = view.event_video(
            recording, output, fps=fps, window_us=window_us, slow_motion=slow, overwrite=overwrite
        )
        return {"output": str(output), "kind": "video", "frames": frames}
    if suffix != ".png":
        raise InputError(
            f"{output} has suffix {suffix!r}, expected .png or one of {', '.join(VIDEO_SUFFIXES)}"
        )
    sheet = view.contact_sheet(recording, panels=panels, window_us=window_us)
    with atomic_output(output, overwrite=overwrite) as temporary:
        encoded = cv2.imencode(".png", sheet[..., ::-1])[1]
        temporary.write_bytes(encoded.tobytes())
    return {
        "output": str(output),
        "kind": "contact sheet",
        "panels": panels,
        "pixels": f"{sheet.shape[1]}x{sheet.shape[0]}",
    }
