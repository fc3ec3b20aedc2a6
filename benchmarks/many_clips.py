"""Seconds to plan, and to resume, a run of thousands of clips of which nothing is left to do.

    python benchmarks/many_clips.py [--clips 1000 3000 10000] [--preset v2e-clean] [--against PYTHON]

Each clip is a folder of two tiny PNG and each output a few bytes, with the record that a finished job has:
what is measured is finding the clips, making the jobs, reading the manifest, comparing inputs and outputs,
and removing what dead runs left. plan: `evsim simulate folders --dry-run` of a new run, which also
simulates the first frames of three clips. resume: `--resume` of a finished one. Wall seconds are those of the
command, its start included; cpu s is its processor time. --against: the interpreter of another installation
of evsim, measured in turn with this one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from evsim.pipelines.runs.job import JobRecord, now, written_output
from evsim.pipelines.runs.run import execute_run
from evsim.pipelines.runs.simulation import describe_run
from evsim.pipelines.runs.simulation_job import SimulationJob

ROOT = Path(__file__).resolve().parent.parent
CLIPS_PER_FOLDER = 1000


def build_clips(root: Path, count: int) -> Path:
    """`count` folders of two images of 16x12 under `root`; returns it."""
    drawn = np.random.default_rng(0).integers(0, 256, (2, 12, 16), np.uint8)
    images = [cv2.imencode(".png", image)[1].tobytes() for image in drawn]
    for number in range(count):
        clip = root / f"{number // CLIPS_PER_FOLDER:02d}" / f"{number:06d}"
        clip.mkdir(parents=True)
        for k, image in enumerate(images):
            (clip / f"{k}.png").write_bytes(image)
    return root


def write_a_little(job: SimulationJob) -> JobRecord:
    """What stands for simulating a clip."""
    for name in (*job.outputs, *job.beside):
        (job.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (job.folder / name).write_text(job.name)
    return JobRecord(
        name=job.name,
        status="done",
        outputs=tuple(written_output(job.folder, name) for name in job.outputs),
        fingerprint=job.fingerprint(),
        content=job.content(),
        facts=job.blank_facts,
        finished=now(),
    )


def finished_run(clips: Path, run: Path, preset: str) -> Path:
    """A run of these clips of which every job is recorded; returns its folder."""
    # Nothing of it has to outlive a power cut.
    with mock.patch("os.fsync"):
        execute_run(describe_run("folders", clips, fps=30.0, preset=preset), run, work=write_a_little)
    return run


def timed(python: str, *words: object) -> tuple[float, float, dict[str, int]]:
    """Wall and processor seconds of `evsim simulate folders`, and what it printed."""
    path = {"PYTHONPATH": str(ROOT)} if python == sys.executable else {}
    started, before = time.perf_counter(), _processor_seconds()
    done = subprocess.run(
        [python, "-m", "evsim", "simulate", "folders", *map(str, words), "--fps", "30", "--json"],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, **path},
    )
    return time.perf_counter() - started, _processor_seconds() - before, json.loads(done.stdout)


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def main() -> None:
    """Parse, build, time, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--preset", default="v2e-clean", help="sim2real-random has draws")
    parser.add_argument("--against", default=None, metavar="PYTHON")
    arguments = parser.parse_args()
    pythons = {"this": sys.executable} | ({"other": arguments.against} if arguments.against else {})
    print(f"{'clips':>6} {'evsim':>6} {'plan s':>7} {'cpu s':>7} {'resume s':>9} {'cpu s':>7}")
    for count in arguments.clips:
        with tempfile.TemporaryDirectory() as folder:
            clips = build_clips(Path(folder) / "clips", count)
            run = finished_run(clips, Path(folder) / "run", arguments.preset)
            for name, python in pythons.items():
                options = ("--preset", arguments.preset)
                plan, plan_cpu, told = timed(python, clips, "-o", Path(folder) / "new", *options, "--dry-run")
                assert told["to_do"] == count
                resume, resume_cpu, told = timed(python, clips, "-o", run, *options, "--resume")
                assert told["skipped"] == count
                print(
                    f"{count:>6} {name:>6} {plan:>7.2f} {plan_cpu:>7.2f} {resume:>9.2f} {resume_cpu:>7.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
