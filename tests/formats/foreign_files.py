"""Files of formats that evsim only reads, made by the shortest encoders that the layouts allow."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.events import Events


def evt3_words(events: Events, *, vectors: bool = True) -> NDArray[np.uint16]:
    """EVT3 words; neighbours of one time, row and polarity become vectors of 12 and 8."""
    words: list[int] = []
    high = low = row = None
    t, x, y, p = (getattr(events, name).tolist() for name in "txyp")
    k = 0
    while k < len(t):
        if high != t[k] >> 12:
            high, low = t[k] >> 12, None
            words.append(0x8000 | (high & 0xFFF))
        if low != t[k] & 0xFFF:
            low = t[k] & 0xFFF
            words.append(0x6000 | low)
        if row != y[k]:
            row = y[k]
            words.append(row)
        end = k + 1
        while (
            end < len(t)
            and (t[end], y[end], p[end]) == (t[k], y[k], p[k])
            and x[end - 1] < x[end] < x[k] + 20
        ):
            end += 1
        if vectors and end - k > 1:
            bits = sum(1 << (column - x[k]) for column in x[k:end])
            words += [0x3000 | (p[k] << 11) | x[k], 0x4000 | (bits & 0xFFF), 0x5000 | (bits >> 12)]
        else:
            words += [0x2000 | (p[j] << 11) | x[j] for j in range(k, end)]
        k = end
    return np.array(words, "<u2")


def write_evt3(events: Events, path: Path, *, vectors: bool = True) -> Path:
    """An EVT3 file; its clock keeps 24 bits of the time."""
    header = f"% evt 3.0\n% format EVT3;height={events.height};width={events.width}\n% end\n"
    path.write_bytes(header.encode() + evt3_words(events, vectors=vectors).tobytes())
    return path


def write_aedat2(events: Events, path: Path, *, header: str = "", marks: NDArray[Any] | None = None) -> Path:
    """An AEDAT 2 file as v2e and jAER write it; marks: bits to add to each address."""
    x = (events.width - 1 - events.x.astype(np.int64)) & 0x3FF
    y = (events.height - 1 - events.y.astype(np.int64)) & 0x1FF
    if (events.width, events.height) == (640, 480):
        address = (y << 11) | (x << 1) | events.p
    else:
        address = (y << 22) | (x << 12) | (events.p.astype(np.int64) << 11)
    records = np.empty((len(events), 2), ">u4")
    records[:, 0] = address if marks is None else address | marks
    records[:, 1] = events.t & 0xFFFFFFFF
    chip = {346: "Davis346", 240: "Davis240C", 640: "DVS640"}.get(events.width, "unknown")
    text = f"#!AER-DAT2.0\r\n# AEChip: {chip}\r\n{header}"
    path.write_bytes(text.encode() + records.tobytes())
    return path


def write_nmnist(events: Events, path: Path) -> Path:
    """40-bit records; a row of y = 240 moves the 23-bit clock on by 2^13 us."""
    records, moved = [], 0
    for t, x, y, p in zip(*(getattr(events, name).tolist() for name in "txyp")):
        while t - moved >= 1 << 23:
            moved += 1 << 13
            records.append(bytes([0, 240, 0, 0, 0]))
        records.append(bytes([x, y]) + ((p << 23) | (t - moved)).to_bytes(3, "big"))
    path.write_bytes(b"".join(records))
    return path


def write_raw_memmap(events: Events, path: Path, images: Any = None, times: Any = None) -> Path:
    """event_utils' memory map: bare numbers in files called .npy."""
    path.mkdir()
    events.t.astype("<f8").tofile(path / "t.npy")
    np.stack([events.x, events.y], 1).astype("<i2").tofile(path / "xy.npy")
    events.p.tofile(path / "p.npy")
    if images is not None:
        np.asarray(images, np.uint8).tofile(path / "images.npy")
        np.asarray(times, np.float64).tofile(path / "timestamps.npy")
    return path


def write_bs_ergb(events: Events, path: Path, gap: int = 1000) -> Path:
    """One .npz for every `gap` events, coordinates times 32 in 16 bits."""
    path.mkdir()
    for number, start in enumerate(range(0, max(1, len(events)), gap)):
        part = events[start : start + gap]
        np.savez(
            path / f"{number:06d}.npz",
            x=(part.x.astype(np.float64) * 32).astype(np.uint16),
            y=(part.y.astype(np.float64) * 32).astype(np.uint16),
            timestamp=part.t,
            polarity=part.p,
        )
    return path


def write_ecd_folder(
    events: Events,
    path: Path,
    images: Sequence[NDArray[np.uint8]] = (),
    times_us: Sequence[float] = (),
) -> Path:
    """events.txt, and images.txt beside images/ where there are images."""
    path.mkdir()
    columns = zip(*(getattr(events, name).tolist() for name in "txyp"), strict=True)
    rows = (f"{t / 1e6:.6f} {x} {y} {p}\n" for t, x, y, p in columns)
    (path / "events.txt").write_text("".join(rows))
    if len(images):
        (path / "images").mkdir()
        lines = []
        for number, (image, time) in enumerate(zip(images, times_us, strict=True)):
            cv2.imwrite(str(path / "images" / f"frame_{number:08d}.png"), image)
            lines.append(f"{time / 1e6:.9f} images/frame_{number:08d}.png\n")
        (path / "images.txt").write_text("".join(lines))
    return path


EVENT_ARRAY = """
std_msgs/Header header
uint32 height
uint32 width
dvs_msgs/Event[] events
"""
EVENT = """
uint16 x
uint16 y
time ts
bool polarity
"""


def write_rosbag(
    events: Events,
    path: Path,
    images: Any = (),
    per_message: int = 700,
    events_topic: str | None = "/dvs/events",
) -> Path:
    """A ROS 1 bag through the package rosbags: events in arrays, (image, ns, encoding) as messages."""
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg(EVENT, "dvs_msgs/msg/Event"))
    store.register(get_types_from_msg(EVENT_ARRAY, "dvs_msgs/msg/EventArray"))
    with Writer(path) as writer:
        if events_topic is not None:
            connection = writer.add_connection(events_topic, "dvs_msgs/msg/EventArray", typestore=store)
        for start in () if events_topic is None else range(0, len(events), per_message) or (0,):
            part = events[start : start + per_message]
            data = _header(0) + struct.pack("<III", part.height, part.width, len(part)) + _event_bytes(part)
            writer.write(connection, int(part.t[0] * 1000) if len(part) else 0, data)
        topics: dict[str, Any] = {}
        for number, (image, t_ns, encoding) in enumerate(images):
            topic = "/dvs/image_color" if image.ndim == 3 else "/dvs/image_raw"
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
            text = encoding.encode()
            data = _header(t_ns) + struct.pack("<III", *image.shape[:2], len(text)) + text
            data += struct.pack("<BII", 0, image.nbytes // image.shape[0], image.nbytes) + image.tobytes()
            writer.write(topics[topic], 5_000_000 * (number + 1), data)  # the clock of recording is another
    return path


def _header(t_ns: int) -> bytes:
    return struct.pack("<IIII", 0, *divmod(t_ns, 1_000_000_000), 0)


def _event_bytes(events: Events) -> bytes:
    packed = np.empty(len(events), [("x", "<u2"), ("y", "<u2"), ("sec", "<u4"), ("nsec", "<u4"), ("p", "u1")])
    packed["x"], packed["y"], packed["p"] = events.x, events.y, events.p
    packed["sec"], packed["nsec"] = events.t // 1_000_000, events.t % 1_000_000 * 1000
    return packed.tobytes()


def write_aedat4(events: Events, path: Path, images: Any = ()) -> Path:
    """An AEDAT 4 file through the package dv_processing."""
    import dv_processing as dv

    config = dv.io.MonoCameraWriter.Config("camera")
    config.addEventStream((events.width, events.height))
    config.addFrameStream((events.width, events.height))
    writer = dv.io.MonoCameraWriter(str(path), config)
    for start in range(0, len(events), 4000):
        store = dv.EventStore()
        part = events[start : start + 4000]
        for t, x, y, p in zip(*(getattr(part, name).tolist() for name in "txyp")):
            store.push_back(t + events.t_origin, x, y, bool(p))
        writer.writeEvents(store)
    for image, t_us in images:
        writer.writeFrame(dv.Frame(t_us, image))
    del writer
    return path
