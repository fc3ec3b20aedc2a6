"""One format to another, piece by piece, saying everything that is not the same afterwards."""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats.catalogue import (
    Format,
    create_events,
    format_for,
    open_events,
    rounded_to_pixels,
    stripped,
)
from evsim.formats.storage.recording import IndexedRecording, Recording
from evsim.formats.storage.rled_layout import is_ours
from evsim.formats.storage.writer import EventWriter

BLOCKS_AHEAD = 4
"""Enough to go on while the disk takes a breath; some megabytes each."""


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    format: str | None = None,
    source_format: str | None = None,
    size: tuple[int, int] | None = None,
    unit: str | None = None,
    round_coordinates: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> list[str]:
    """Write the recording `source` as `destination` and return sentences saying what changed.

    format, source_format: names in `FORMATS`, told by suffix and by content when None. size, unit: as for
    `open_events`. options: the target format's. Sub-pixel coordinates are refused with InputError when the
    target holds whole pixels, unless `round_coordinates`. Memory does not grow with the recording.
    """
    target = format_for(destination, format)
    if Path(destination).exists() and Path(source).exists() and Path(destination).samefile(source):
        raise InputError(f"{destination}: source and destination are the same")
    with open_events(source, size=size, unit=unit, format=source_format) as recording:
        settings = {**_carried(recording, target), **options}
        with create_events(
            destination,
            recording.width,
            recording.height,
            format=target.name,
            overwrite=overwrite,
            **settings,
        ) as writer:
            counts = copy_recording(recording, writer, target, round_coordinates=round_coordinates)
        shift = writer.t_origin - recording.t_origin if target.origin else 0
        if shift:
            counts.append(f"{shift} us of every time went to t_origin; absolute times are unchanged")
        counts += [f"{count} {what}" for what, count in writer.remarks.items() if count]
        return _changes(recording, target, options) + counts


def copy_recording(
    recording: Recording, writer: EventWriter, target: Format, *, round_coordinates: bool = False
) -> list[str]:
    """Stream events and images of `recording` into an open writer; sentences about values that changed."""
    moved = beyond = colour = misfits = exposures = kinds = 0
    shift = writer.t_origin - recording.t_origin if target.origin else 0
    for events in _ahead(recording.chunks()):
        kept: Events = stripped(events, target)
        if shift:
            kept = replace(kept, t=kept.t - shift, t_origin=writer.t_origin)
        if round_coordinates and not target.subpixel:
            kept, m, b = rounded_to_pixels(kept)
            moved, beyond = moved + m, beyond + b
        writer.append(kept, checked=True)
    if target.images:
        for image in recording.images():
            exposure_us, kind = (image.exposure_us, image.kind) if target.timed_images else (0.0, "frame")
            if not writer.takes_size(image.image.shape[:2], kind):
                misfits += 1
                continue
            colour += image.image.ndim == 3
            exposures += image.exposure_us > 0
            kinds += image.kind != "frame"
            writer.append_image(image.image, image.t_us - shift, exposure_us=exposure_us, kind=kind)
    changes = [f"{count} {what}" for what, count in recording.repairs.items() if count]
    if recording.rounded_times:
        changes.append(f"{recording.rounded_times} times were rounded to whole microseconds")
    if moved:
        changes.append(f"{moved} events were moved by rounding their coordinates to whole pixels")
    if beyond:
        changes.append(f"{beyond} of them would have left the sensor and went to its last row or column")
    if colour and not target.colour:
        changes.append(f"{colour} colour images became grey")
    if misfits:
        wanted = (
            "of the size of those before"
            if target.timed_images
            else f"of the sensor's size {writer.width}x{writer.height}"
        )
        changes.append(f"{misfits} images were dropped: they are not {wanted}")
    if not target.timed_images:
        for count, what in ((exposures, "the exposures of {} images"), (kinds, "the kinds of {} images")):
            if count:
                changes.append(f"{what.format(count)} were dropped: {target.name} has no place for them")
    return changes


def _ahead(blocks: Iterator[Events]) -> Iterator[Events]:
    """The same blocks, the next few of which another thread reads while one is written."""
    with ThreadPoolExecutor(1, "read") as pool:
        reading = deque(pool.submit(next, blocks, None) for _ in range(BLOCKS_AHEAD))
        while (block := reading.popleft().result()) is not None:
            reading.append(pool.submit(next, blocks, None))
            yield block


def _carried(recording: Recording, target: Format) -> dict[str, Any]:
    """The writer's arguments that come from the source."""
    carried: dict[str, Any] = {"labels": recording.has_labels and target.labels}
    if target.origin:
        carried["t_origin"] = recording.t_origin + _excess(recording, target)
    if target.provenance:
        carried.update(provenance(recording))
    if "event_windows" in target.options:
        carried.update(image_windows(recording))
    if "expected_events" in target.options and isinstance(recording, IndexedRecording):
        carried["expected_events"] = len(recording)
    if "attributes" in target.options and "num_events" in recording.attributes:
        carried["attributes"] = recording.attributes
    return carried


def _excess(recording: Recording, target: Format) -> int:
    """Whole seconds to take off every time where the target's clock is too short for the first one."""
    first = recording.first_time()
    if first is None and target.images and recording.image_count:
        first = int(recording.image(0).t_us)
    limit = target.create.largest_time if target.create is not None else 0
    return first // 1_000_000 * 1_000_000 if first is not None and first >= limit // 2 else 0


def provenance(recording: Recording) -> dict[str, Any]:
    """seed and config of a recording that says them, as a writer takes them."""
    told: dict[str, Any] = {
        name: recording.attributes[name] for name in ("seed", "config") if name in recording.attributes
    }
    if isinstance(told.get("config"), str):
        with contextlib.suppress(ValueError):
            told["config"] = json.loads(told["config"])
    return told


def image_windows(recording: Recording) -> dict[str, Any]:
    """The writer's event_windows that belong to the images of `recording`, if anything is to be said.

    Stored windows are kept. RLED files of other writers that have none get none; otherwise the target's
    own default holds.
    """
    windows = recording.event_windows
    foreign = recording.format in ("native", "rled_memmap") and not is_ours(recording.attributes)
    return {"event_windows": windows} if windows is not None or foreign else {}


def require_sensor_sized_images(recording: Recording, reader: str) -> None:
    """Raise InputError where an image has another size than the sensor, which `reader` does not read."""
    for number, facts in enumerate(recording.image_facts()):
        if (facts.width, facts.height) != (recording.width, recording.height):
            raise InputError(
                f"{recording.path}: image {number} is {facts.width}x{facts.height} pixels on a sensor of "
                f"{recording.width}x{recording.height}, and {reader} reads images of the sensor's size; "
                "write the recording with such images, or without any"
            )


def _changes(recording: Recording, target: Format, options: dict[str, Any]) -> list[str]:
    changes = []
    unit = options.get("unit", target.unit)
    if recording.unit != unit:
        changes.append(f"times were in {recording.unit} and are in {unit}")
    if recording.polarity != target.polarity:
        changes.append(f"polarity was coded {recording.polarity} and is coded {target.polarity}")
    if recording.mirrored:
        changes.append(f"{recording.mirrored} ran the other way in the file and were turned round")
    if recording.moved_to_origin:
        changes.append(
            f"{recording.moved_to_origin} us of Unix time were taken off every time and are t_origin"
        )
    if recording.t_origin and not target.origin:
        changes.append(
            f"t_origin = {recording.t_origin} us was dropped: {target.name} has no place for it; "
            "times are unchanged"
        )
    if recording.has_labels and not target.labels:
        changes.append(f"labels were dropped: {target.name} has no place for them")
    if recording.image_count and not target.images:
        changes.append(f"{recording.image_count} images were dropped: {target.name} has no place for them")
    lost = [name for name in provenance(recording) if not target.provenance]
    if lost:
        changes.append(f"{' and '.join(lost)} were dropped: {target.name} has no place for them")
    return changes
