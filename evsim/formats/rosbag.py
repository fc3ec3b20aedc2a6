"""ROS 1 bags (ECD, HQF, CED), reading: arrays of events and images, through the package rosbags."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import EvsimError, FormatError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.storage.packages import require_package
from evsim.formats.storage.recording import RecordedImage, Recording, events_before
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.units import epoch_origin

MARK = b"#ROSBAG V2.0\n"
EVENT_TYPES = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")
IMAGE_TYPE = "sensor_msgs/msg/Image"
EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("sec", "<u4"), ("nsec", "<u4"), ("p", "u1")])
CHANNELS = {"mono8": 1, "8UC1": 1, "bgr8": 3, "rgb8": 3, "8UC3": 3}
MOSAICS = {f"bayer_{cell}8": cell.upper() for cell in ("rggb", "bggr", "gbrg", "grbg")}
BACKWARD = "image times went back and were put midway between their neighbours"


class Message(NamedTuple):
    """The parts of a message that is an array of events or an image: both begin alike."""

    stamp_ns: int
    height: int
    width: int
    rest: memoryview


def sniff(path: Path, head: bytes) -> bool:
    """True for a file that begins with the line of a ROS 1 bag."""
    return head.startswith(MARK)


class RosbagRecording(Recording):
    """A bag with one camera: the first topic of events by name, and the images of the same name space.

    Colour images are preferred to raw ones; mosaics are interpolated to colour. Image times are those in the
    message headers, not of recording.
    Times are Unix times; their whole seconds go to t_origin. Raises InputError without the package
    rosbags, FormatError for a damaged bag or one without events.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        self._library = require_package(path, "rosbags.rosbag1", "rosbags")
        self.path = path
        with self._reader() as reader:
            topics = {connection.topic: connection.msgtype for connection in reader.connections}
            counts = {name: info.msgcount for name, info in reader.topics.items()}
        events = sorted(topic for topic, kind in topics.items() if kind in EVENT_TYPES)
        if not events:
            raise FormatError(
                path,
                f"has no topic of type {_ros_name(EVENT_TYPES[0])}, such as /dvs/events; its topics are "
                f"{', '.join(f'{name} ({_ros_name(topics[name])})' for name in sorted(topics)) or 'none'}; "
                "take the recording that has the events",
            )
        self._event_topic = events[0]
        space = self._event_topic.rsplit("/", 1)[0]
        images = [t for t, kind in topics.items() if kind == IMAGE_TYPE and t.startswith(space + "/")]
        self._image_topic = next(iter(sorted(images, key=lambda topic: ("color" not in topic, topic))), None)
        self._image_count = counts.get(self._image_topic or "", 0)
        self._shift = 0
        self._length: int | None = None
        self._stamps: NDArray[np.float64] | None = None
        told, first = self._first_message()
        self._shift = epoch_origin(first)
        super().__init__(
            path,
            "rosbag",
            sensor_size(path, told, order="wh", image_shape=None, given=size),
            t_origin=self._shift,
            unit="ns",
            polarity="bool",
            attributes={
                "event_topic": self._event_topic,
                "other_event_topics": events[1:],
                "image_topic": self._image_topic,
            },
        )

    def _first_message(self) -> tuple[tuple[int, int] | None, int]:
        """The sensor's size as the first message says it, and the time of the first event in microseconds."""
        told = None
        for message in self._messages(self._event_topic):
            told = told or (message.width, message.height)
            events = self._event_array(message)
            if len(events):
                return told, int(_nanoseconds(events[:1])[0]) // 1000
        return told, 0

    def __len__(self) -> int:
        if self._known is not None:
            return self._known.events
        if self._length is None:
            self._length = sum(
                len(self._event_array(message)) for message in self._messages(self._event_topic)
            )
        return self._length

    @property
    def image_count(self) -> int:
        return self._image_count

    def images(self) -> Iterator[RecordedImage]:
        if self._image_topic is None:
            return
        counted = self.rounded_times
        times = self.image_times().tolist()
        counts = events_before(self._blocks(), times)
        for message, t_us, before in zip(self._messages(self._image_topic), times, counts):
            yield RecordedImage(self._image(message), t_us, max(0, before - 1))
        self.rounded_times = counted

    def image_times(self) -> NDArray[np.float64]:
        """float64 (image_count,): the stamps in the headers of the images, microseconds."""
        if self._stamps is None:
            topic = self._image_topic
            stamps = [] if topic is None else [message.stamp_ns for message in self._messages(topic)]
            self._stamps = self._forward(np.array(stamps, np.float64) / 1e3 - self._shift)
        return self._stamps.copy()

    def _forward(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times of images; one that goes back (a published bag has one) is put between its neighbours."""
        fixed = times.copy()
        wrong = np.flatnonzero(np.diff(times) < 0) + 1
        for row in wrong.tolist():
            after = times[row + 1] if row + 1 < len(times) else fixed[row - 1]
            fixed[row] = max(fixed[row - 1], (fixed[row - 1] + after) / 2)
        if len(wrong):
            self.repairs[BACKWARD] = len(wrong)
        return fixed

    def _blocks(self) -> Iterator[Events]:
        for message in self._messages(self._event_topic):
            events = self._event_array(message)
            nanoseconds = _nanoseconds(events)
            self.rounded_times += int(np.count_nonzero(nanoseconds % 1000))
            yield Events(
                (nanoseconds + 500) // 1000 - self._shift,
                np.ascontiguousarray(events["x"]),
                np.ascontiguousarray(events["y"]),
                (events["p"] != 0).astype(np.uint8),
                self.width,
                self.height,
                self.t_origin,
            )

    def _event_array(self, message: Message) -> NDArray[np.void]:
        with self._damage():
            (count,) = struct.unpack_from("<I", message.rest)
            return np.frombuffer(message.rest, EVENT, count, 4)

    def _image(self, message: Message) -> NDArray[np.uint8]:
        with self._damage():
            (length,) = struct.unpack_from("<I", message.rest)
            encoding = bytes(message.rest[4 : 4 + length]).decode("ascii")
            _, step, held = struct.unpack_from("<BII", message.rest, 4 + length)
            channels = CHANNELS.get(encoding, 1 if encoding in MOSAICS else 0)
            if not channels:
                raise FormatError(
                    self.path,
                    f"images are {encoding}, expected one of {', '.join([*CHANNELS, *MOSAICS])}",
                    place=str(self._image_topic),
                )
            rows = np.frombuffer(message.rest, np.uint8, held, 4 + length + 9).reshape(message.height, step)
            image = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
        if encoding in MOSAICS:
            return _demosaic(np.ascontiguousarray(image[..., 0]), MOSAICS[encoding])
        if channels == 1:
            return np.array(image[..., 0])
        return np.ascontiguousarray(image if encoding == "rgb8" else image[..., ::-1])

    def _messages(self, topic: str) -> Iterator[Message]:
        with self._reader() as reader, self._damage():
            connections = [connection for connection in reader.connections if connection.topic == topic]
            for _, _, data in reader.messages(connections=connections):
                _, seconds, nanoseconds, length = struct.unpack_from("<IIII", data)
                height, width = struct.unpack_from("<II", data, 16 + length)
                yield Message(
                    seconds * 1_000_000_000 + nanoseconds, height, width, memoryview(data)[24 + length :]
                )

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Any]:
        with self._damage(), self._library.Reader(self.path) as reader:
            yield reader

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        """Turn whatever the package raises into FormatError."""
        try:
            yield
        except EvsimError:
            raise
        except Exception as error:
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise FormatError(self.path, f"damaged or cut short: {first}") from error


def _demosaic(plane: NDArray[np.uint8], cell: str) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) RGB from a mosaic (H, W), bilinear; cell: its colours by row, such as RGGB."""
    import cv2

    return np.asarray(cv2.cvtColor(plane, getattr(cv2, f"COLOR_Bayer{cell}2RGB")), np.uint8)


def _ros_name(kind: str) -> str:
    """The name of a type as ROS 1 prints it."""
    return kind.replace("/msg/", "/")


def _nanoseconds(events: NDArray[np.void]) -> NDArray[np.int64]:
    return events["sec"].astype(np.int64) * 1_000_000_000 + events["nsec"]


register(
    Format(
        name="rosbag",
        summary="ROS 1 bag with dvs_msgs events and images, through the package rosbags (read only)",
        suffixes=(".bag",),
        sniff=sniff,
        open=RosbagRecording,
        unit="ns",
        polarity="bool",
        images=True,
        origin=True,
    )
)
