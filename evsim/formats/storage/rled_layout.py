"""What RLED's HDF5 files and their memory-map folders share: root attributes, sensor size, image order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from evsim.errors import FormatError, InputError
from evsim.formats.storage.writer import EventWriter

FORMAT_ATTRIBUTE = "evsim.events"
VERSION = 1


def own_attributes(writer: EventWriter) -> dict[str, Any]:
    """The root attributes that only evsim writes: what the file is, its unit and origin, what made it."""
    attributes: dict[str, Any] = {
        "format": FORMAT_ATTRIBUTE,
        "version": VERSION,
        "time_unit": "us",
        "t_offset": writer.t_origin,
    }
    if writer.seed is not None:
        attributes["seed"] = writer.seed
    if writer.config_json is not None:
        attributes["config"] = writer.config_json
    return attributes


def counted_attributes(writer: EventWriter) -> dict[str, Any]:
    """RLED's root attributes of what was written, without the sensor's size."""
    first = float(writer.t_first or 0)
    last = float(writer.t_last or 0)
    return {
        "num_events": writer.event_count,
        "num_pos": writer.on_count,
        "num_neg": writer.event_count - writer.on_count,
        "duration": last - first,
        "t0": first,
        "tk": last,
        "num_imgs": len(writer.image_times),
        "num_flow": 0,
    }


def is_ours(attributes: Mapping[str, Any]) -> bool:
    """True if the attributes say that evsim wrote the file."""
    return attributes.get("format") == FORMAT_ATTRIBUTE


def require_known_version(path: str | os.PathLike[str], attributes: Mapping[str, Any]) -> None:
    """FormatError for a file of ours in a layout that came after this program."""
    version = attributes.get("version", VERSION)
    if is_ours(attributes) and version != VERSION:
        raise FormatError(
            path,
            f"has version {version} of {FORMAT_ATTRIBUTE}, expected {VERSION}; use a newer evsim",
        )


def sensor_size(
    path: str | os.PathLike[str],
    resolution: Any,
    *,
    order: str | None,
    image_shape: Sequence[int] | None,
    given: tuple[int, int] | None,
) -> tuple[int, int]:
    """(width, height) of a file of the RLED family.

    resolution: its sensor_resolution or None, whose order differs between writers. order: 'wh' or 'hw' where
    the layout declares it, else None. image_shape: (H, W, ...) of an image, which decides. given: what the
    caller said. Raises InputError naming --size when nothing decides, FormatError when image and attribute
    contradict each other.
    """
    if given is not None:
        return given
    sides = None if resolution is None else [int(side) for side in resolution]
    if sides is not None and len(sides) != 2:
        raise FormatError(path, f"sensor_resolution is {sides}, expected two numbers")
    if image_shape is not None:
        size = (int(image_shape[1]), int(image_shape[0]))
        if sides is not None and sorted(sides) != sorted(size):
            raise FormatError(
                path,
                f"sensor_resolution is {sides}, but the images are {size[0]}x{size[1]}; "
                "pass size= (--size WxH) to say what the events have",
            )
        return size
    if sides is None:
        raise InputError(
            f"{os.fspath(path)}: the file does not say the sensor's size; pass size= (--size WxH)"
        )
    if order == "wh" or (order is None and sides[0] == sides[1]):
        return sides[0], sides[1]
    if order == "hw":
        return sides[1], sides[0]
    a, b = sides
    raise InputError(
        f"{os.fspath(path)}: sensor_resolution is {sides}, and writers of this layout differ in which is "
        f"the width; pass size= (--size {a}x{b} or --size {b}x{a})"
    )
