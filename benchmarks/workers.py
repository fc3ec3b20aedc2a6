"""Wall time of one run of six clips by the number of worker processes, and that all write the same bytes.

    python benchmarks/workers.py [--workers 1 2] [--clips FOLDER_OF_VIDEOS] [--size 640x360] [--frames 48]

Each run is a process of its own, `evsim simulate gopro`, as a user starts it: the times include the start of
the interpreter, of the workers, and loading what is compiled. A first run that is not counted fills the
compilation cache. One worker is the run in the process of the command itself, once with one thread, as each
of several workers has, and once with all cores at one clip. The speed-up is that over one worker and thread
(best over best). cpu s is processor time: where rows agree in it, what lacks in the speed-up is other load.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gopro_tree import build_tree

ROOT = Path(__file__).resolve().parent.parent


ONE_THREAD = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def timed_run(tree: Path, output: Path, workers: int, *, threads: int | None = 1) -> tuple[float, float, str]:
    """Wall and processor seconds of one run, and a digest of all it wrote. threads: None for all cores."""
    limits = dict.fromkeys(ONE_THREAD, "1") if threads else {}
    started, before = time.perf_counter(), _processor_seconds()
    subprocess.run(
        [sys.executable, "-m", "evsim", "simulate", "gopro", str(tree), "-o", str(output)]
        + ["--workers", str(workers), *(["--threads", str(threads)] if threads else [])],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), **limits},
    )
    seconds, used = time.perf_counter() - started, _processor_seconds() - before
    digest = hashlib.sha256()
    for path in sorted(output.rglob("*")):
        if path.suffix in (".h5", ".yaml"):
            digest.update(path.relative_to(output).as_posix().encode() + path.read_bytes())
    return seconds, used, digest.hexdigest()[:12]


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def main() -> None:
    """Parse, build the tree, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="beside one")
    parser.add_argument("--clips", type=Path, default=None, help="folder of videos to cut the clips from")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--frames", type=int, default=48, help="of each clip, before upsampling x8")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        tree = build_tree(Path(folder) / "GOPRO", arguments.clips, (width, height), arguments.frames)
        timed_run(tree, Path(folder) / "warm", 1)
        kinds: list[tuple[int, int | None]] = [
            (1, 1),
            (1, None),
            *((count, 1) for count in arguments.workers),
        ]
        times: dict[tuple[int, int | None], list[float]] = {kind: [] for kind in kinds}
        processor: dict[tuple[int, int | None], list[float]] = {kind: [] for kind in kinds}
        digests = set()
        # Alternating, so that what else the machine does falls on all alike.
        for turn, (number, kind) in itertools.product(range(arguments.repeat), enumerate(kinds)):
            output = Path(folder) / f"run-{number}-{turn}"
            seconds, used, digest = timed_run(tree, output, kind[0], threads=kind[1])
            times[kind].append(seconds)
            processor[kind].append(used)
            digests.add(digest)
            shutil.rmtree(output)
    base = times[kinds[0]]
    print(f"6 clips, {arguments.frames} frames of {width}x{height}, x8, {os.cpu_count()} cores")
    print(f"{'workers':>8} {'threads':>8} {'best s':>8} {'median s':>9} {'cpu s':>7} {'speed-up':>9}")
    for (workers, threads), measured in times.items():
        ratio = min(base) / min(measured)
        shown = f"{threads or 'all':>8} {min(measured):>8.2f} {statistics.median(measured):>9.2f}"
        print(f"{workers:>8} {shown} {min(processor[workers, threads]):>7.2f} {ratio:>9.2f}")
    print("outputs: " + ("identical" if len(digests) == 1 else f"DIFFERENT: {digests}"))


if __name__ == "__main__":
    main()
