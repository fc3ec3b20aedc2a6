"""Every format against the one contract; a new format adds a class here."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import foreign_files
import numpy as np
from format_conformance import FormatConformance, assert_same, make_events
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim.events import Events
from evsim.formats import FORMATS, Recording, open_events


class TestNative(FormatConformance):
    name = "native"


class TestRledMemmap(FormatConformance):
    name = "rled_memmap"
    largest_side = 32768


class TestNpz(FormatConformance):
    name = "npz"


class TestNpy(FormatConformance):
    name = "npy"
    needs_size = True


class TestText(FormatConformance):
    name = "text"


class TestV2eText(FormatConformance):
    name = "v2e_text"


class TestDsec(FormatConformance):
    name = "dsec"
    largest_time = 2**28  # of 2^32, which would make an index of four million milliseconds


class TestV2eHdf5(FormatConformance):
    name = "v2e_hdf5"
    largest_time = 2**32
    image_times = (1000.0, 40_000.0, 10_000_000.0)


class TestEvreal(FormatConformance):
    name = "evreal"
    largest_side = 32768


class TestZarr(FormatConformance):
    name = "zarr"


class TestTimeLens(FormatConformance):
    name = "timelens_npz"


class TestGem(FormatConformance):
    name = "gem_npz"
    options: ClassVar[dict[str, Any]] = {"exposures": ((0, 50_000), (60_000, 110_000))}


class TestEvt2(FormatConformance):
    name = "evt2"
    largest_side = 2048


class TestDat(FormatConformance):
    name = "dat"
    largest_side = 16384


class TestIntervalFrames(FormatConformance):
    """Only events that the layout can hold: one a pixel and interval, at its end."""

    name = "interval_frames"
    largest_side = 500
    options: ClassVar[dict[str, Any]] = {"interval_us": 10_000}

    def sample(self, n: int = 3000, **options: Any) -> Events:
        options = {"width": 60, "height": 50, **options}
        events = make_events(n, **options)
        t = -(-events.t // 10_000) * 10_000
        keys = np.stack([t, events.y, events.x])
        _, rows = np.unique(keys, axis=1, return_index=True)
        return Events(t[rows], events.x[rows], events.y[rows], events.p[rows], events.width, events.height)

    @settings(max_examples=15, deadline=None)
    @given(n=st.sampled_from([0, 1, 50]), start=st.sampled_from([0, 1, 2**33]), seed=st.integers(0, 99))
    def test_what_is_written_is_read(self, n: int, start: int, seed: int) -> None:
        events = self.sample(n, start=start, span=30_000, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            with self.read(self.write(events, self.path(Path(folder))), events) as recording:
                assert len(recording) == len(events)
                assert_same(recording.events(), events)


class TestEvt3(FormatConformance):
    name = "evt3"
    largest_side = 2048
    largest_time = 1 << 24

    def write(self, events: Events, path: Path) -> Path:
        return foreign_files.write_evt3(events, path)


class TestAedat2(FormatConformance):
    name = "aedat2"
    sizes = ((346, 260), (240, 180), (640, 480))
    largest_time = 2**32

    def write(self, events: Events, path: Path) -> Path:
        noise = np.zeros(len(events), np.int64) if events.label is None else (events.label > 0) * 1024
        header = "" if events.label is None else "# created by v2e\r\n"
        return foreign_files.write_aedat2(events, path, header=header, marks=noise)

    def sample(self, n: int = 3000, **options: Any) -> Events:
        return make_events(n, **options)

    def fitted(self, events: Events) -> Events:
        fitted = super().fitted(events)
        # One bit is no room for leak events, and a DVS640 has none at all.
        kept = fitted.label is not None and fitted.width != 640
        return replace(fitted, label=np.minimum(fitted.label, 1) if kept else None)


class TestNmnist(FormatConformance):
    name = "nmnist"
    needs_size = True
    sizes = ((240, 180), (34, 34))
    largest_time = 1 << 23

    def write(self, events: Events, path: Path) -> Path:
        return foreign_files.write_nmnist(events, path)

    def read(self, path: Path, like: Events) -> Recording:
        name = self.name if not path.stat().st_size else None  # nothing tells what an empty file is
        return open_events(path, size=(like.width, like.height), format=name)

    def sample(self, n: int = 3000, **options: Any) -> Events:
        return make_events(n, **{"width": 240, "height": 180, **options})


class TestRawMemmap(FormatConformance):
    name = "raw_memmap"
    needs_size = True
    largest_side = 32768

    def write(self, events: Events, path: Path) -> Path:
        return foreign_files.write_raw_memmap(events, path)


class TestBsErgb(FormatConformance):
    name = "bs_ergb"
    needs_size = True
    largest_side = 1024

    def write(self, events: Events, path: Path) -> Path:
        return foreign_files.write_bs_ergb(events, path)

    def sample(self, n: int = 3000, **options: Any) -> Events:
        return self.fitted(make_events(n, **options))

    def fitted(self, events: Events) -> Events:
        fitted = super().fitted(events)
        return replace(fitted, x=fitted.x.astype(np.float32), y=fitted.y.astype(np.float32))


class TestEcdFolder(FormatConformance):
    name = "ecd_folder"
    needs_size = True

    def write(self, events: Events, path: Path) -> Path:
        return foreign_files.write_ecd_folder(events, path)


class TestAedat4(FormatConformance):
    name = "aedat4"
    largest_side = 32768
    largest_time = 2**50

    def write(self, events: Events, path: Path) -> Path:
        return foreign_files.write_aedat4(events, path)


class TestRosbag(FormatConformance):
    name = "rosbag"
    largest_time = 2**50

    def write(self, events: Events, path: Path) -> Path:
        return foreign_files.write_rosbag(events, path)


def test_every_format_is_tested() -> None:
    assert sorted(tested.name for tested in FormatConformance.__subclasses__()) == sorted(FORMATS)


def test_every_suffix_has_one_writer() -> None:
    suffixes = [suffix for format in FORMATS.values() if format.create for suffix in format.suffixes]
    assert len(suffixes) == len(set(suffixes))
