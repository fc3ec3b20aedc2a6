"""Kill a run of six clips at random moments, resume it, and compare every byte with an undisturbed run.

    python benchmarks/kill_and_resume.py [--kills 10] [--clips FOLDER_OF_VIDEOS] [--size 160x90] [--seed 0]

Each kill is SIGKILL to the whole process group of `evsim simulate gopro --workers 2`, at a moment drawn
uniformly over the time an undisturbed run takes; then `--resume` finishes it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gopro_tree import build_tree

ROOT = Path(__file__).resolve().parent.parent


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """`evsim simulate` as a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "evsim", "simulate", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def finish(*arguments: object) -> None:
    """Run to the end; SystemExit unless it ends well."""
    code = start(*arguments).wait()
    if code:
        raise SystemExit(f"evsim simulate {' '.join(map(str, arguments))} ended with {code}")


def outputs(run: Path) -> dict[str, bytes]:
    """Everything a run wrote for its clips, by relative path."""
    found = [path for path in sorted(run.rglob("*")) if path.suffix in (".h5", ".yaml")]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in found}


def temporaries(run: Path) -> int:
    """How many unfinished files lie in a run folder."""
    return sum(".partial" in path.name for path in run.rglob("*"))


def main() -> None:
    """Parse, build the tree, kill and resume, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--clips", type=Path, default=None, help="folder of videos to cut the clips from")
    parser.add_argument("--size", default="160x90")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    moments = random.Random(arguments.seed)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        tree = build_tree(base / "GOPRO", arguments.clips, (width, height), arguments.frames)
        finish("gopro", tree, "-o", base / "serial")
        reference = outputs(base / "serial")
        started = time.perf_counter()
        finish("gopro", tree, "-o", base / "two", "--workers", 2)
        whole = time.perf_counter() - started
        print(f"undisturbed with 2 workers: {whole:.1f} s, {len(reference)} files")
        print(" kill  after s  clips done  temporaries  left  identical")
        for kill in range(1, arguments.kills + 1):
            run = base / f"killed-{kill}"
            after = moments.uniform(0.3, whole)
            process = start("gopro", tree, "-o", run, "--workers", 2)
            time.sleep(after)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done = len([path for path in run.rglob("*.h5") if ".partial" not in path.name])
            stale = temporaries(run)
            finish("gopro", tree, "-o", run, "--workers", 2, "--resume")
            left = temporaries(run)
            same = outputs(run) == reference and not left
            wrong += not same
            print(
                f"{kill:>5} {after:>8.2f} {done:>11} {stale:>12} {left:>5} {same!s:>10}",
                flush=True,
            )
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
