"""Wall time of one run of six clips by the number of worker processes, and that all write the same bytes.

    python benchmarks/workers.py [--workers 1 2] [--clips FOLDER_OF_VIDEOS] [--size 320x180] [--frames 24]

Each run is a process of its own, `evsim simulate gopro`, as a user starts it: the times include the start of
the interpreter, of the workers, and loading what is compiled. A first run that is not counted fills the
compilation cache. "1" runs one worker process; "serial" in this table is the run without workers.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gopro_tree import build_tree

ROOT = Path(__file__).resolve().parent.parent


def timed_run(tree: Path, output: Path, workers: int) -> tuple[float, str]:
    """Seconds of one run, and a digest of everything it wrote for its clips."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "evsim", "simulate", "gopro", str(tree), "-o", str(output)]
        + ["--workers", str(workers), "--threads", "1"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"},
    )
    seconds = time.perf_counter() - started
    digest = hashlib.sha256()
    for path in sorted(output.rglob("*")):
        if path.suffix in (".h5", ".yaml"):
            digest.update(path.relative_to(output).as_posix().encode() + path.read_bytes())
    return seconds, digest.hexdigest()[:12]


def main() -> None:
    """Parse, build the tree, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clips", type=Path, default=None, help="folder of videos to cut the clips from")
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--frames", type=int, default=24, help="of each clip, before upsampling x8")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        tree = build_tree(Path(folder) / "GOPRO", arguments.clips, (width, height), arguments.frames)
        timed_run(tree, Path(folder) / "warm", 1)
        times: dict[int, list[float]] = {workers: [] for workers in arguments.workers}
        digests = set()
        # Alternating, so that what else the machine does falls on all alike.
        for turn in range(arguments.repeat):
            for workers in arguments.workers:
                seconds, digest = timed_run(tree, Path(folder) / f"run-{workers}-{turn}", workers)
                times[workers].append(seconds)
                digests.add(digest)
    base = min(times[arguments.workers[0]])
    print(f"6 clips, {arguments.frames} frames of {width}x{height}, x8, {os.cpu_count()} cores")
    print(f"{'workers':>8} {'best s':>8} {'median s':>9} {'speed-up':>9}")
    for workers, measured in times.items():
        middle = sorted(measured)[len(measured) // 2]
        print(f"{workers:>8} {min(measured):>8.2f} {middle:>9.2f} {base / min(measured):>9.2f}")
    print("outputs: " + ("identical" if len(digests) == 1 else f"DIFFERENT: {digests}"))


if __name__ == "__main__":
    main()
