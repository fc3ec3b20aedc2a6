"""Large recordings: a random 10 ms window of 1e8 events, and packing against copying the file.

    python benchmarks/formats.py [--events 100000000] [--folder DIR]

Builds one HDF5 file of about 1.3 GB in a temporary folder and deletes it. Windows are opened and read with a
warm cache. Rates are bytes of that file per second of wall time, each including the flush to the disk; every
timed run begins alike, see `level`.
"""

from __future__ import annotations

import argparse
import os
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
from evsim.pipelines.packing.rled import pack_rled

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


def level(folder: Path, size: int) -> None:
    """The same start for each run: nothing waits for the disk, and a file of this size has just been removed.

    Its memory is then free again. A virtual machine hands free memory back to its host after a while, and
    whoever needs it next waits for every page: without this that is half the time of one run and of another
    nothing, by chance and by the order of the runs.
    """
    os.sync()
    path = folder / "level"
    with path.open("wb") as file:
        for _ in range(-(-size >> 20)):
            file.write(bytes(1 << 20))
    path.unlink()


def measured_rates(source: Path, folder: Path, repeats: int) -> dict[str, list[float]]:
    """Bytes of the source per second, for a plain copy first, then for packing and for the way back."""
    size = source.stat().st_size
    copy, packed, back = folder / "copy.h5", folder / "packed", folder / "back.h5"
    works: dict[str, Callable[[], object]] = {
        "copy": lambda: copied(source, copy),
        "pack rled --memmap": lambda: pack_rled(source, packed, memmap=True),
        "back to HDF5": lambda: convert(packed / source.stem, back),
    }
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            level(folder, size)
            rates[name].append(size / seconds(work))
            copy.unlink(missing_ok=True)
        back.unlink()
        shutil.rmtree(packed)
    return rates


COMMAND = """
import atexit
from pathlib import Path
from evsim.cli.main import main
peak = lambda: [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
atexit.register(lambda: print(peak()[0].split()[1]))
main()
"""


def evsim(*words: str) -> float:
    """The command in a process of its own, and that process's peak memory in MiB."""
    command = [sys.executable, "-c", COMMAND, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=5)
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
        packed = evsim("pack", "rled", str(source), "-o", str(folder / "packed"), "--memmap")
        back = evsim("convert", str(folder / "packed" / "recording"), str(folder / "back.h5"))
        print(f"peak memory of the commands: pack {packed:.0f} MiB, back {back:.0f} MiB")


if __name__ == "__main__":
    main()
