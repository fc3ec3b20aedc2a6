"""Damaged files of every format, read in a child process: an error of ours or nothing, and soon."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import foreign_files
import numpy as np
import pytest
from format_conformance import make_events
from test_conversion import OPTIONS

from evsim.events import Events
from evsim.formats import FORMATS, create_events

MUTANTS = 51
SECONDS = 10.0
HERE = Path(__file__).resolve().parent


class Child:
    """A process that reads files one after the other; it is replaced when it hangs or dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def read(self, path: Path, format: str, size: tuple[int, int], unit: str | None) -> str:
        """What came of the file: 'read', 'refused', or what went wrong."""
        process = self._process or self._start()
        job = {"path": str(path), "format": format, "size": size, "unit": unit}
        assert process.stdin is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        line = self._line(SECONDS)
        if line is None:
            self.close()
            return f"no answer in {SECONDS} s"
        if not line:
            code = process.wait()
            self.close()
            return f"the process died with {code}"
        return str(json.loads(line)["said"])

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "NUMBA_NUM_THREADS": "1"}
        self._process = process = subprocess.Popen(
            [sys.executable, str(HERE / "read_mutants.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=HERE.parent.parent,
        )
        lines: queue.Queue[str] = queue.Queue()

        def collect() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put("")

        threading.Thread(target=collect, daemon=True).start()
        self._lines = lines
        assert self._line(60.0) == "ready\n"
        return process

    def _line(self, seconds: float) -> str | None:
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    started = Child()
    yield started
    started.close()


def write_sample(name: str, path: Path) -> Events:
    """A small file of the format, with images and labels where it holds them."""
    events = make_events(300, width=240, height=180, span=9000, labels=FORMATS[name].labels)
    images = np.random.default_rng(1).integers(0, 256, (2, 180, 240), np.uint8)
    foreign: dict[str, Any] = {
        "evt3": lambda: foreign_files.write_evt3(events, path),
        "aedat2": lambda: foreign_files.write_aedat2(replace(events, label=None), path),
        "nmnist": lambda: foreign_files.write_nmnist(events, path),
        "raw_memmap": lambda: foreign_files.write_raw_memmap(events, path, images, [100.0, 900.0]),
        "bs_ergb": lambda: foreign_files.write_bs_ergb(events, path, gap=100),
        "ecd_folder": lambda: foreign_files.write_ecd_folder(events, path, images, [100.0, 900.0]),
        "aedat4": lambda: foreign_files.write_aedat4(events, path, [(images[0], 500)]),
        "rosbag": lambda: foreign_files.write_rosbag(events, path, [(images[0], 500_000, "mono8")], 100),
    }
    if name in foreign:
        foreign[name]()
        return events
    format = FORMATS[name]
    options = OPTIONS.get(name, {})
    with create_events(path, 240, 180, format=name, labels=format.labels, **options) as writer:
        writer.append(events)
        for image, t in zip(images if format.images else (), (100.0, 900.0)):
            writer.append_image(image, t)
    return events


def mutate(data: bytes, rng: np.random.Generator, kind: int) -> bytes:
    """The file cut short (0), with bytes changed in its first 2 KB (1), or anywhere (2)."""
    if kind == 0 or not data:
        return data[: int(rng.integers(0, max(1, len(data))))]
    damaged = bytearray(data)
    reach = min(len(data), 2048) if kind == 1 else len(data)
    for place in rng.integers(0, reach, int(rng.integers(1, 5))):
        damaged[place] = (
            int(rng.integers(0, 256)) if rng.integers(2) else damaged[place] ^ (1 << int(rng.integers(8)))
        )
    return bytes(damaged)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_damage_is_an_error_of_ours_or_harmless(tmp_path: Path, child: Child, name: str) -> None:
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    events = write_sample(name, path)
    files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
    rng = np.random.default_rng(sorted(FORMATS).index(name))
    wrong = {}
    for number in range(MUTANTS):
        victim = files[int(rng.integers(len(files)))]
        whole = victim.read_bytes()
        victim.write_bytes(mutate(whole, rng, number % 3))
        said = child.read(path, name, (events.width, events.height), None)
        if said not in ("read", "refused"):
            wrong[f"mutant {number} of {victim.name}"] = said
        victim.write_bytes(whole)
    assert wrong == {}
    assert child.read(path, name, (events.width, events.height), None) == "read"
