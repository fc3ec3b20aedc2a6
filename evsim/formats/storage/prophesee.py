"""What Prophesee's raw formats (EVT2, EVT3, DAT) share: the header with geometry, time base and origin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from evsim.errors import FormatError, InputError
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.words import header_fields, header_lines

TIME_BASE, ORIGIN = "evsim_time_base_us", "evsim_t_origin_us"
"""Header fields of evsim's own: what the file's short clock leaves out, and `t_origin`; others skip them."""

EVT21 = ("EVT21", "EVT2.1")
"""What headers call EVT2.1."""


class RawHeader(NamedTuple):
    """Fields of the header, the byte after it, what it says of size, encoding ("" if nothing) and time."""

    fields: dict[str, str]
    end: int
    size: tuple[int, int] | None
    encoding: str
    time_base: int
    t_origin: int


def read_header(path: Path) -> RawHeader:
    """The lines '% key value' at the beginning of a file. Raises FormatError for numbers that are none."""
    lines, end = header_lines(path, b"%", end=b"% end")
    fields = header_fields(lines, "%")
    layout, *options = fields.get("format", "").split(";")
    told = {key: value for key, _, value in (option.partition("=") for option in options)}
    width, height = (told.get(side) or fields.get(side) for side in ("width", "height"))
    if (width is None or height is None) and "geometry" in fields:
        width, _, height = fields["geometry"].partition("x")
    version = fields.get("evt", "")
    encoding = layout.upper() or ("EVT" + version.removesuffix(".0") if version else "")
    return RawHeader(
        fields,
        end,
        None if width is None or height is None else (_number(path, width), _number(path, height)),
        encoding,
        _number(path, fields.get(TIME_BASE, "0")),
        _number(path, fields.get(ORIGIN, "0")),
    )


def head_encoding(head: bytes) -> str:
    """'EVT2', 'EVT3', ... or 'DAT' as the first lines of a file say, or ''."""
    if not head.startswith(b"% "):
        return ""
    text = head.decode("latin-1")
    if found := re.search(r"^% format (EVT[0-9.]+)", text, re.M | re.I):
        return found[1].upper()
    if found := re.search(r"^% evt (\d+)\.?(\d*)", text, re.M | re.I):
        return f"EVT{found[1]}" + (f".{found[2]}" if found[2].strip("0") else "")
    return "DAT" if re.search(r"^% version", text, re.M | re.I) else ""


def require_encoding(path: Path, header: RawHeader, wanted: str) -> None:
    """Raise InputError for EVT2.1, which no reader here decodes, FormatError for another than `wanted`."""
    if header.encoding in EVT21:
        raise InputError(
            f"{path}: is EVT2.1, 64-bit words with 32 pixels each, which evsim does not read; convert it to "
            "DAT first (metavision_file_to_dat of the Metavision SDK), or record EVT2 or EVT3"
        )
    if header.encoding not in (wanted, ""):
        raise FormatError(path, f"is {header.encoding}, expected {wanted}", place="header")


def header_size(path: Path, header: RawHeader, given: tuple[int, int] | None) -> tuple[int, int]:
    """The sensor's size as the caller or the header says it; InputError naming --size where neither does."""
    return sensor_size(path, header.size, order="wh", image_shape=None, given=given)


def _number(path: Path, text: str) -> int:
    try:
        if len(text) > 20:
            raise ValueError
        return int(text)
    except ValueError:
        raise FormatError(path, f"{text[:30]!r} is no number", place="header") from None
