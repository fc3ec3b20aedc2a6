"""What every format must do. A format's test is a subclass in test_conformance.py that names it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evsim.errors import EvsimError, FormatError, InputError
from evsim.events import Events
from evsim.formats import FORMATS, Format, Recording, check, create_events, open_events, save_events, sniff

COLUMNS = ("t", "x", "y", "p", "label")


def make_events(
    n: int,
    *,
    width: int = 346,
    height: int = 260,
    start: int = 0,
    span: int = 100_000,
    labels: bool = False,
    seed: int = 0,
) -> Events:
    """`n` sorted events with many equal times, reaching the last column and row."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width, n), rng.integers(0, height, n)
    x[-1:], y[-1:] = width - 1, height - 1
    return Events(
        start + np.sort(rng.integers(0, span, n)),
        x.astype(np.uint16),
        y.astype(np.uint16),
        rng.integers(0, 2, n).astype(np.uint8),
        width,
        height,
        label=rng.integers(0, 3, n).astype(np.uint8) if labels else None,
    )


def assert_same(found: Events, wanted: Events) -> None:
    """Equal columns of equal type, on the same sensor with the same origin."""
    assert (found.width, found.height, found.t_origin) == (wanted.width, wanted.height, wanted.t_origin)
    for name in COLUMNS:
        a, b = getattr(found, name), getattr(wanted, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)


def content(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of every file in a folder."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(entry.relative_to(path)): entry.read_bytes() for entry in path.rglob("*") if entry.is_file()}


@st.composite
def event_streams(draw: st.DrawFn) -> Events:
    """Streams of any small length on sensors of many sizes, at times up to 2^50 microseconds."""
    return make_events(
        draw(st.sampled_from([0, 1, 2, 50])),
        width=draw(st.sampled_from([1, 33, 346, 8192])),
        height=draw(st.sampled_from([1, 17, 260])),
        start=draw(st.sampled_from([0, 1, 10**6, 2**32 - 5, 2**32 + 7, 2**50])),
        span=draw(st.sampled_from([1, 100, 200_000])),
        labels=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )


class FormatConformance:
    """The contract of a format; subclasses set `name`, and what a reader must be told.

    sizes: the only sensors that the format knows, if it is so. largest_time: times that its files hold.
    """

    name: ClassVar[str]
    needs_size: ClassVar[bool] = False
    needs_unit: ClassVar[str | None] = None
    largest_side: ClassVar[int] = 65536
    largest_time: ClassVar[int] = 2**63
    sizes: ClassVar[tuple[tuple[int, int], ...]] = ()
    image_times: ClassVar[tuple[float, ...]] = (1000.0, 40_000.5, 10_000_000.0)
    options: ClassVar[dict[str, Any]] = {}

    @property
    def format(self) -> Format:
        return FORMATS[self.name]

    def path(self, folder: Path, stem: str = "recording") -> Path:
        return folder / (stem + self.format.suffixes[0])

    def write(self, events: Events, path: Path) -> Path:
        """Write a file of this format; a format that evsim only reads overrides this."""
        return save_events(events, path, format=self.name, **self.options)

    def read(self, path: Path, like: Events) -> Recording:
        size = (like.width, like.height) if self.needs_size else None
        return open_events(path, size=size, unit=self.needs_unit)

    def fitted(self, events: Events) -> Events:
        """The events on a sensor and at times that the format can hold."""
        width, height = min(events.width, self.largest_side), min(events.height, self.largest_side)
        if self.sizes:
            width, height = self.sizes[len(events) % len(self.sizes)]
        t = events.t
        if len(t) and t[-1] >= self.largest_time:
            t = t - t[-1] + self.largest_time - 1
        x, y = np.minimum(events.x, width - 1), np.minimum(events.y, height - 1)
        label = events.label if self.format.labels else None
        return Events(t, x, y, events.p, width, height, label=label)

    def sample(self, n: int = 3000, **options: Any) -> Events:
        return make_events(n, labels=self.format.labels, **options)

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(events=event_streams())
    def test_what_is_written_is_read(self, events: Events) -> None:
        events = self.fitted(events)
        with tempfile.TemporaryDirectory() as folder:
            path = self.write(events, self.path(Path(folder)))
            with self.read(path, events) as recording:
                assert len(recording) == len(events)
                assert recording.format == self.name
                assert_same(recording.events(), events)

    def test_largest_sensor_keeps_its_last_pixel(self, tmp_path: Path) -> None:
        width, height = self.sizes[-1] if self.sizes else (self.largest_side, self.largest_side)
        events = self.sample(10, width=width, height=height)
        with self.read(self.write(events, self.path(tmp_path)), events) as recording:
            assert_same(recording.events(), events)

    def test_is_recognised_by_content(self, tmp_path: Path) -> None:
        events = self.sample()
        path = self.write(events, self.path(tmp_path))
        renamed = path.rename(tmp_path / "nothing.in.this.name")
        found = sniff(renamed)
        assert found is not None
        assert found.name == self.name

    def test_origin_is_kept_and_not_added(self, tmp_path: Path) -> None:
        plain = self.sample()
        events = Events(plain.t, plain.x, plain.y, plain.p, plain.width, plain.height, 10**15, plain.label)
        if self.format.create is None:
            return
        if not self.format.origin:
            with pytest.raises(InputError, match="t_origin"):
                self.write(events, self.path(tmp_path))
            return
        with self.read(self.write(events, self.path(tmp_path)), events) as recording:
            assert recording.t_origin == 10**15
            assert_same(recording.events(), events)

    def test_window_is_half_open(self, tmp_path: Path) -> None:
        events = self.sample(start=5_000_000)
        with self.read(self.write(events, self.path(tmp_path)), events) as recording:
            first, middle, last = (int(events.t[row]) for row in (0, len(events) // 2, -1))
            for t0, t1 in (
                (first, middle),
                (middle, middle),
                (middle, middle + 1),
                (middle, last),
                (first, last + 1),
                (0, first),
                (last + 1, last + 10),
                (first - 10, last + 10**9),
                (middle + 5, middle - 5),
            ):
                wanted = events.between(t0, t1) if t1 >= t0 else events[:0]
                assert_same(recording.between(t0, t1), wanted)

    @pytest.mark.parametrize(("n", "counts"), [(40, [1]), (3000, [7, 1000, 3000, 5000])])
    def test_chunks_by_count_make_the_whole(self, tmp_path: Path, n: int, counts: list[int]) -> None:
        events = self.sample(n)
        with self.read(self.write(events, self.path(tmp_path)), events) as recording:
            for count in counts:
                chunks = list(recording.chunks(count=count))
                assert {len(chunk) for chunk in chunks[:-1]} <= {count}
                assert 1 <= len(chunks[-1]) <= count
                assert_same(Events.concatenate(chunks), events)

    def test_chunks_by_time_are_consecutive_half_open_windows(self, tmp_path: Path) -> None:
        quiet, late = self.sample(2000, span=20_000), self.sample(1000, start=70_000, span=3000)
        events = Events.concatenate([quiet, late])
        with self.read(self.write(events, self.path(tmp_path)), events) as recording:
            chunks = list(recording.chunks(microseconds=5000))
        first = int(events.t[0])
        for k, chunk in enumerate(chunks):
            assert_same(chunk, events.between(first + 5000 * k, first + 5000 * (k + 1)))
        assert any(len(chunk) == 0 for chunk in chunks)
        assert sum(map(len, chunks)) == len(events)

    def test_chunks_take_one_positive_length(self, tmp_path: Path) -> None:
        events = self.sample(10)
        with self.read(self.write(events, self.path(tmp_path)), events) as recording:
            for wrong in ({"count": 0}, {"microseconds": -1}, {"count": 1, "microseconds": 1}):
                with pytest.raises(InputError, match="chunks"):
                    recording.chunks(**wrong)

    def test_pieces_give_the_bytes_of_the_whole(self, tmp_path: Path) -> None:
        if self.format.create is None:
            return
        events = self.sample(20_000)
        whole = self.write(events, self.path(tmp_path, "whole"))
        pieces = self.path(tmp_path, "pieces")
        options = {"format": self.name, "labels": self.format.labels, **self.options}
        with create_events(pieces, events.width, events.height, **options) as writer:
            writer.append(events[:0])
            for start in range(0, len(events), 777):
                writer.append(events[start : start + 777])
        assert content(pieces) == content(whole)

    def test_overwriting_must_be_asked_for(self, tmp_path: Path) -> None:
        if self.format.create is None:
            return
        events = self.sample(10)
        path = self.write(events, self.path(tmp_path))
        with pytest.raises(InputError, match="--overwrite"):
            self.write(events, path)
        other = self.sample(20)
        save_events(other, path, format=self.name, overwrite=True, **self.options)
        with self.read(path, other) as recording:
            assert_same(recording.events(), other)

    def test_failure_leaves_nothing(self, tmp_path: Path) -> None:
        if self.format.create is None:
            return
        events, path = self.sample(200_000), self.path(tmp_path)
        options = {"format": self.name, "labels": self.format.labels, **self.options}

        def stop_half_way() -> None:
            with create_events(path, events.width, events.height, **options) as writer:
                writer.append(events)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stop_half_way()
        assert list(tmp_path.iterdir()) == []

    def test_events_must_go_forward(self, tmp_path: Path) -> None:
        if self.format.create is None:
            return
        early, late = self.sample(10), self.sample(10, start=1_000_000)
        options = {"format": self.name, "labels": self.format.labels, **self.options}

        def go_back() -> None:
            with create_events(self.path(tmp_path), early.width, early.height, **options) as writer:
                writer.append(late)
                writer.append(early)

        with pytest.raises(InputError, match="before the last one"):
            go_back()
        assert list(tmp_path.iterdir()) == []

    def test_sub_pixel_coordinates_are_kept_or_refused(self, tmp_path: Path) -> None:
        if self.format.create is None:
            return
        whole = self.sample(100)
        x = (whole.x * np.float32(0.5)).astype(np.float32)
        events = Events(whole.t, x, whole.y.astype(np.float32), whole.p, 346, 260, 0, whole.label)
        path = self.path(tmp_path)
        if not self.format.subpixel:
            with pytest.raises(InputError, match="--round"):
                self.write(events, path)
            save_events(events, path, format=self.name, round_coordinates=True, **self.options)
            with self.read(path, events) as recording:
                np.testing.assert_array_equal(recording.events().x, np.rint(x).astype(np.uint16))
            return
        self.write(events, path)
        with self.read(path, events) as recording:
            assert recording.subpixel
            np.testing.assert_array_equal(recording.events().x, x)

    def test_images_are_kept_or_refused(self, tmp_path: Path) -> None:
        if self.format.create is None:
            return
        events, path = self.sample(start=1000), self.path(tmp_path)
        images = np.random.default_rng(1).integers(0, 256, (3, events.height, events.width), np.uint8)
        times = self.image_times
        options = {"format": self.name, "labels": self.format.labels, **self.options}

        def write() -> None:
            with create_events(path, events.width, events.height, **options) as writer:
                for image, time in zip(images[:2], times):
                    writer.append_image(image, time)
                writer.append(events)
                writer.append_image(images[2], times[2])

        if not self.format.images:
            with pytest.raises(InputError, match="images"):
                write()
            return
        write()
        with self.read(path, events) as recording:
            found = list(recording.images())
            assert recording.image_count == 3
        for image, wanted, time in zip(found, images, times):
            np.testing.assert_array_equal(image.image, wanted)
            assert image.t_us == time
            assert image.event_index == max(0, int(np.searchsorted(events.t, time)) - 1)

    def test_timed_images_are_kept_or_refused(self, tmp_path: Path) -> None:
        if self.format.create is None or not self.format.images:
            return
        events = self.sample(start=1000)
        draws = np.random.default_rng(1)
        blurry = draws.integers(0, 256, (events.height // 2, events.width // 2), np.uint8)
        sharp = draws.integers(0, 256, (2 * events.height, 2 * events.width, 3), np.uint8)
        frame = draws.integers(0, 256, (events.height, events.width), np.uint8)
        options = {"format": self.name, "labels": self.format.labels, **self.options}

        def write(image: Any, **facts: Any) -> None:
            path = self.path(tmp_path, f"refused{len(list(tmp_path.iterdir()))}")
            with create_events(path, events.width, events.height, **options) as writer:
                writer.append_image(image, 5000.0, **facts)

        for wrong, words in (
            ({"exposure_us": -1.0}, "exposure"),
            ({"exposure_us": np.nan}, "exposure"),
            ({"kind": "sharpe"}, "did you mean 'sharp'"),
        ):
            with pytest.raises(InputError, match=words):
                write(frame, **wrong)
        if not self.format.timed_images:
            for image, facts, words in (
                (blurry, {}, "images of the sensor's size"),
                (frame, {"exposure_us": 10.0}, "no place for exposures"),
                (frame, {"kind": "sharp"}, "no place for exposures"),
            ):
                with pytest.raises(InputError, match=words):
                    write(image, **facts)
            assert list(tmp_path.iterdir()) == []
            return
        path = self.path(tmp_path)
        with create_events(path, events.width, events.height, **options) as writer:
            writer.append(events)
            writer.append_image(sharp, 20_000.0, kind="sharp")
            writer.append_image(blurry, 30_000.5, exposure_us=20_000.25, kind="blurry")
            writer.append_image(frame, 30_000.5)
            with pytest.raises(InputError, match="size of the blurry images before"):
                writer.append_image(frame, 40_000.0, kind="blurry")
        with self.read(path, events) as recording:
            found, facts = list(recording.images()), list(recording.image_facts())
            assert (recording.width, recording.height) == (events.width, events.height)
            assert_same(recording.events(), events)
        assert [(image.t_us, image.exposure_us, image.kind) for image in found] == [
            (20_000.0, 0.0, "sharp"),
            (30_000.5, 20_000.25, "blurry"),
            (30_000.5, 0.0, "frame"),
        ]
        for image, wanted, fact in zip(found, (sharp, blurry, frame), facts):
            np.testing.assert_array_equal(image.image, wanted)
            assert fact == (wanted.shape[1], wanted.shape[0], image.exposure_us, image.kind)
        assert check(path) == []

    def test_what_the_file_does_not_say_is_asked_for(self, tmp_path: Path) -> None:
        events = self.sample(10)
        path = self.write(events, self.path(tmp_path))
        if self.needs_size:
            with pytest.raises(InputError, match="--size"):
                open_events(path, unit=self.needs_unit)
        if self.needs_unit:
            with pytest.raises(InputError, match="--unit"):
                open_events(path, size=(events.width, events.height))

    def test_events_outside_the_given_sensor_are_refused(self, tmp_path: Path) -> None:
        events = self.sample()
        path = self.write(events, self.path(tmp_path))
        if self.sizes or self.name == "bs_ergb":
            return  # the size decides how the file is read, or what lies outside goes to the border
        with (
            open_events(path, size=(30, events.height), unit=self.needs_unit) as recording,
            pytest.raises(FormatError, match="outside the sensor"),
        ):
            recording.events()

    def test_a_file_cut_short_is_never_read_as_more(self, tmp_path: Path) -> None:
        events = self.sample(20_000)
        path = self.write(events, self.path(tmp_path))
        files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
        for victim in files[:: -(-len(files) // 12)]:
            whole = victim.read_bytes()
            for kept in (0.99, 0.7, 0.3, 0.02, 0.0):
                victim.write_bytes(whole[: int(kept * len(whole))])
                try:
                    with self.read(path, events) as recording:
                        found = recording.events()
                except EvsimError:
                    continue
                assert_same(found, events[: len(found)])
                assert path.is_dir() or len(found) < len(events), f"{victim} cut to {kept}"
            victim.write_bytes(whole)

    def test_damaged_bytes_are_an_error_of_ours_or_harmless(self, tmp_path: Path) -> None:
        events = self.sample(500)
        path = self.write(events, self.path(tmp_path))
        files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
        for seed in range(8):
            rng = np.random.default_rng(seed)
            victim = files[seed % len(files)]
            whole = victim.read_bytes()
            damaged = bytearray(whole)
            reach = min(len(damaged), 3000)
            for side in (0, len(damaged) - reach):  # what describes the data is at either end
                damaged[side + int(rng.integers(reach))] = int(rng.integers(256))
            victim.write_bytes(bytes(damaged))
            with contextlib.suppress(EvsimError), self.read(path, events) as recording:
                recording.events().validate()
                list(recording.images())
            victim.write_bytes(whole)
