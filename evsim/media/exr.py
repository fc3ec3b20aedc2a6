"""OpenEXR images: single-part scanline files, uncompressed or with RLE, ZIPS or ZIP compression.

Layout after the "OpenEXR File Layout" of the Academy Software Foundation: magic and version, attributes,
a table of chunk offsets, then chunks of 1 or 16 scanlines with the channels in alphabetical order.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError

_MAGIC = 20000630
_UNSUPPORTED_FLAGS = {0x200: "tiled", 0x800: "deep", 0x1000: "multi-part"}
_COMPRESSIONS = ("NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
_LINES_PER_CHUNK = {"NONE": 1, "RLE": 1, "ZIPS": 1, "ZIP": 16}
_PIXEL_TYPES = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))


@dataclass(frozen=True)
class _Header:
    channels: list[tuple[str, np.dtype]]
    compression: str
    width: int
    height: int
    first_line: int
    end: int


def read_exr(path: Path) -> NDArray[np.float32]:
    """(H, W) or (H, W, 3) float32, linear: the data window of the channels R, G, B, or Y.

    Raises InputError for damaged files and for the kinds of OpenEXR that are not read (tiled, multi-part,
    subsampled, other compressions).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        header = _read_header(content, path)
        planes = _read_planes(content, header, path)
    except (struct.error, zlib.error, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is a damaged OpenEXR file: {error}") from error
    names = [name for name in ("R", "G", "B") if name in planes]
    if len(names) == 3:
        return np.stack([planes[name] for name in names], axis=2)
    if "Y" in planes and "RY" not in planes:
        return planes["Y"]
    raise InputError(f"{path} holds the channels {', '.join(planes)}; expected R, G, B or Y")


def _read_header(content: bytes, path: Path) -> _Header:
    magic, version = struct.unpack_from("<II", content, 0)
    if magic != _MAGIC:
        raise InputError(f"{path} is no OpenEXR file: it starts with {content[:4]!r}")
    for flag, word in _UNSUPPORTED_FLAGS.items():
        if version & flag:
            raise InputError(f"{path} is a {word} OpenEXR file; save it as single-part scanlines")
    attributes: dict[str, bytes] = {}
    position = 8
    while content[position] != 0:
        name, position = _text(content, position)
        _, position = _text(content, position)
        (size,) = struct.unpack_from("<i", content, position)
        attributes[name] = content[position + 4 : position + 4 + size]
        position += 4 + size
    missing = [name for name in ("channels", "compression", "dataWindow") if name not in attributes]
    if missing:
        raise InputError(f"{path} is a damaged OpenEXR file: no attribute {missing[0]}")
    code = attributes["compression"][0]
    compression = _COMPRESSIONS[code] if code < len(_COMPRESSIONS) else f"number {code}"
    if compression not in _LINES_PER_CHUNK:
        raise InputError(f"{path} has OpenEXR compression {compression}; save it with ZIP, ZIPS, RLE or none")
    left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
    channels = _channels(attributes["channels"], path)
    width, height = right - left + 1, bottom - top + 1
    if width < 1 or height < 1 or width * height > len(content) * 1100:
        raise InputError(f"{path} is a damaged OpenEXR file: data window of {width}x{height} pixels")
    return _Header(channels, compression, width, height, top, position + 1)


def _channels(value: bytes, path: Path) -> list[tuple[str, np.dtype]]:
    channels = []
    position = 0
    while value[position] != 0:
        name, position = _text(value, position)
        kind, _, x_sampling, y_sampling = struct.unpack_from("<4i", value, position)
        position += 16
        if (x_sampling, y_sampling) != (1, 1):
            raise InputError(f"{path}: channel {name} is subsampled; save every channel at full resolution")
        channels.append((name, _PIXEL_TYPES[kind]))
    return channels


def _read_planes(content: bytes, header: _Header, path: Path) -> dict[str, NDArray[np.float32]]:
    planes = {name: np.zeros((header.height, header.width), np.float32) for name, _ in header.channels}
    lines = _LINES_PER_CHUNK[header.compression]
    count = -(-header.height // lines)
    line_bytes = header.width * sum(kind.itemsize for _, kind in header.channels)
    for offset in struct.unpack_from(f"<{count}Q", content, header.end):
        first, size = struct.unpack_from("<ii", content, offset)
        row = first - header.first_line
        rows = min(lines, header.height - row)
        packed = content[offset + 8 : offset + 8 + size]
        if row < 0 or rows < 1 or size < 0 or len(packed) != size:
            raise InputError(
                f"{path} is cut off or damaged: scanline {first} of {header.height} is incomplete"
            )
        data = _unpack(packed, rows * line_bytes, header.compression)
        position = 0
        for line in range(row, row + rows):
            for name, kind in header.channels:
                planes[name][line] = np.frombuffer(data, kind, header.width, position)
                position += header.width * kind.itemsize
    return planes


def _unpack(packed: bytes, size: int, compression: str) -> bytes:
    if compression == "NONE" or len(packed) == size:
        return packed  # a chunk that would have grown is stored as it is
    raw = _run_lengths(packed) if compression == "RLE" else zlib.decompress(packed)
    if len(raw) != size:
        raise ValueError(f"a chunk holds {len(raw)} bytes, expected {size}")
    # Bytes were stored as differences offset by 128, the even ones before the odd ones.
    deltas = np.frombuffer(raw, np.uint8).astype(np.uint64)
    deltas[1:] -= np.uint64(128)
    values = np.cumsum(deltas).astype(np.uint8)
    half = (size + 1) // 2
    data = np.empty(size, np.uint8)
    data[0::2], data[1::2] = values[:half], values[half:]
    return data.tobytes()


def _run_lengths(packed: bytes) -> bytes:
    out = bytearray()
    position = 0
    while position < len(packed):
        (count,) = struct.unpack_from("<b", packed, position)
        if count < 0:
            out += packed[position + 1 : position + 1 - count]
            position += 1 - count
        else:
            out += packed[position + 1 : position + 2] * (count + 1)
            position += 2
    return bytes(out)


def _text(content: bytes, position: int) -> tuple[str, int]:
    end = content.index(b"\0", position)
    return content[position:end].decode("latin-1"), end + 1
