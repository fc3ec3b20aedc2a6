"""Large recordings: a random 10 ms window of 1e8 events, and packing against copying the file.

    python benchmarks/formats.py [--events 100000000] [--folder DIR]

Builds one HDF5 file of about 1.3 GB in a temporary folder and deletes it. Windows are opened and read with a
warm cache. Rates are input bytes per second of wall time, each including the flush to the disk.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from evsim.events import Events
from evsim.formats import NativeWriter, convert, open_events
from evsim.pipelines.pack import pack_rled

RATE_HZ = 1_000_000
BLOCK = 1_000_000


def build(path: Path, count: int) -> None:
    """Events at about one a microsecond on a VGA sensor."""
    rng = np.random.default_rng(0)
    with NativeWriter(path, 640, 480) as writer:
        for start in range(0, count, BLOCK):
            n = min(BLOCK, count - start)
            writer.append(
                Events(
                    start + np.sort(rng.integers(0, n, n)),
                    rng.integers(0, 640, n).astype(np.uint16),
                    rng.integers(0, 480, n).astype(np.uint16),
                    rng.integers(0, 2, n).astype(np.uint8),
                    640,
                    480,
                )
            )


def without_index(source: Path, path: Path) -> None:
    """The same events as a foreign writer makes them: no index, no unit, no format."""
    shutil.copyfile(source, path)
    with h5py.File(path, "r+") as file:
        del file["ms_to_idx"]
        for name in ("format", "time_unit", "t_offset", "version"):
            del file.attrs[name]


def window_times(path: Path, count: int, size: tuple[int, int] | None = None) -> tuple[float, float, float]:
    """First, median and largest milliseconds to open the file and read a random 10 ms window."""
    rng = np.random.default_rng(1)
    taken = []
    for t0 in rng.integers(0, max(1, count - 10_000), 101).tolist():
        start = time.perf_counter()
        with open_events(path, size=size) as recording:
            events = recording.between(t0, t0 + 10_000)
        taken.append(1e3 * (time.perf_counter() - start))
        if not 9000 < len(events) < 11_000:
            raise SystemExit(f"{len(events)} events in a window of about 10000")
    return taken[0], statistics.median(taken[1:]), max(taken[1:])


def copied(source: Path, target: Path) -> None:
    """A plain copy, flushed like every output of evsim's."""
    shutil.copyfile(source, target)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measured_rates(source: Path, folder: Path, repeats: int) -> dict[str, list[float]]:
    """Bytes of the source per second, for a plain copy first, then for packing and for the way back."""
    size = source.stat().st_size
    copy, packed, back = folder / "copy.h5", folder / "packed", folder / "back.h5"
    rates: dict[str, list[float]] = {"copy": [], "pack rled --memmap": [], "back to HDF5": []}
    for _ in range(repeats):
        rates["copy"].append(size / seconds(lambda: copied(source, copy)))
        rates["pack rled --memmap"].append(size / seconds(lambda: pack_rled(source, packed, memmap=True)))
        rates["back to HDF5"].append(size / seconds(lambda: convert(packed / source.stem, back)))
        copy.unlink()
        back.unlink()
        shutil.rmtree(packed)
    return rates


def evsim(*words: str) -> None:
    """The command in a process of its own."""
    subprocess.run([sys.executable, "-m", "evsim", *words], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        source = folder / "recording.h5"
        print(f"write {options.events:.0e} events: {seconds(lambda: build(source, options.events)):.1f} s")
        print(f"{source.stat().st_size / 1e9:.2f} GB")
        foreign = folder / "foreign.h5"
        without_index(source, foreign)
        for title, path, told in (("own index", source, None), ("without index", foreign, (640, 480))):
            first, median, worst = window_times(path, options.events, told)
            print(f"open and read 10 ms, {title}: first {first:.1f}, median {median:.1f}, max {worst:.1f} ms")
        foreign.unlink()
        copy = None
        for title, found in measured_rates(source, folder, options.repeats).items():
            rate = statistics.median(found)
            copy = copy or rate
            shown = ", ".join(f"{one / 1e9:.2f}" for one in found)
            print(f"{title}: {rate / 1e9:.2f} GB/s ({shown}), {100 * rate / copy:.0f} % of the copy")
        evsim("pack", "rled", str(source), "-o", str(folder / "packed"), "--memmap")
        evsim("convert", str(folder / "packed" / "recording"), str(folder / "back.h5"))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"peak memory of the commands: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
