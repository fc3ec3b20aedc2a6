"""Peak memory of a long clip against that of a short one: the chain streams, so they must agree.

    python benchmarks/memory.py [--frames 200 2000] [--size 1280x720] [--preset sim2real]

Each run is a process of its own: a synthetic clip of smooth texture moving one pixel per source frame,
upsampled x8 by optical flow, through the whole chain into a native HDF5 file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FACTOR = 8
SOURCE_FPS = 240


class MovingTexture:
    """A clip made on the fly: a window sliding over one texture, back and forth."""

    name = "moving texture"
    channels = 1
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    transfer = "srgb"

    def __init__(self, width: int, height: int, frame_count: int) -> None:
        import cv2

        self.width, self.height, self.frame_count = width, height, frame_count
        self._travel = 64
        noise = np.random.RandomState(0).randn(height, width + self._travel).astype(np.float32)
        texture = cv2.GaussianBlur(noise, (0, 0), 16.0)
        self._texture = np.clip(110 + 40 * texture / texture.std(), 0, 255).astype(np.uint8)

    def __iter__(self) -> Iterator[Any]:
        from evsim.media import Frame

        for index in range(self.frame_count):
            column = abs((index + self._travel) % (2 * self._travel) - self._travel)
            image = np.ascontiguousarray(self._texture[:, column : column + self.width])
            yield Frame(image, round(index * 1e9 / SOURCE_FPS), source_index=index)


def run_one(frames: int, width: int, height: int, preset: str) -> dict[str, float]:
    """Simulate once in this process and report peak resident memory."""
    from evsim.pipelines.simulate import compose, simulate_clip

    source = MovingTexture(width, height, (frames - 1) // FACTOR + 1)
    job = compose(preset=preset, job={"upsample": {"method": "flow", "factor": FACTOR}})
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = simulate_clip(source, Path(folder) / "clip.h5", job)
    return {
        "frames": result.frames,
        "events": result.events,
        "seconds": time.perf_counter() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--preset", default="sim2real")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    if options.one:
        print(json.dumps(run_one(options.one, width, height, options.preset)))
        return
    print(f"{options.size}, preset {options.preset}, x{FACTOR} by optical flow")
    print(f"{'frames':>8} {'events':>14} {'seconds':>9} {'peak MB':>9}")
    for frames in options.frames:
        command = [
            sys.executable,
            __file__,
            "--one",
            str(frames),
            "--size",
            options.size,
            "--preset",
            options.preset,
        ]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{row['frames']:>8} {row['events']:>14,} {row['seconds']:>9.1f} {row['peak_mb']:>9.0f}")


if __name__ == "__main__":
    main()
