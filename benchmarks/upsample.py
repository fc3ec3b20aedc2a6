"""How well and how fast the upsample room works, on real clips and on known motion.

    python benchmarks/upsample.py [CLIPS]

CLIPS: a folder with bikes.mp4, bigbuckbunny.mp4, pedestrians.avi, tree.avi, vid2e_street_346x260/video.mp4
and rife_pairs/ (default: clips/ under EVSIM_DATA). Prints three tables: prediction of dropped frames against
blending, scene similarity within shots and across joins, and time per frame with one thread.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.upsample import BlendedPair, UpsampleConfig
from evsim.upsample.cuts import CutDetector, scene_similarity
from evsim.upsample.flow import FlowInterpolator

NAMES = ["bikes.mp4", "bigbuckbunny.mp4", "pedestrians.avi", "tree.avi", "vid2e_street_346x260/video.mp4"]
FILM_CUTS = {"bikes.mp4": [30, 76, 137, 187, 242]}
PAIRS = 40


def read_video(path: Path) -> list[NDArray[np.uint8]]:
    """All frames of a video, RGB."""
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        arrived, frame = video.read()
        if not arrived:
            return frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def psnr(image: NDArray, reference: NDArray) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(255**2 / np.mean((np.rint(image) - reference.astype(np.float32)) ** 2)))


def prediction_table(clips: dict[str, list[NDArray[np.uint8]]]) -> None:
    """Every second frame is dropped and predicted from its neighbours."""
    print(f"{'dropped frames predicted':34}{'flow dB':>9}{'blend dB':>9}{'worst gain':>11}")
    for name, frames in clips.items():
        starts = range(0, len(frames) - 2, 2 * max(1, len(frames) // 2 // PAIRS))
        scores = []
        for k in starts:
            first, dropped, last = frames[k : k + 3]
            across_cut = any(k < cut <= k + 2 for cut in FILM_CUTS.get(name, []))
            if across_cut or np.array_equal(first, last):
                continue
            (flow,) = FlowInterpolator().prepare(first, last).pictures([0.5])
            (blend,) = BlendedPair(first, last).pictures([0.5])
            scores.append((psnr(flow, dropped), psnr(blend, dropped)))
        flow_db, blend_db = np.mean(scores, axis=0)
        worst = min(a - b for a, b in scores)
        print(f"{name:34}{flow_db:9.2f}{blend_db:9.2f}{worst:11.2f}")


def cut_table(clips: dict[str, list[NDArray[np.uint8]]]) -> None:
    """Scene similarity: lowest within shots, highest across joins of two clips."""
    threshold = UpsampleConfig().cut_threshold
    print(f"\n{f'scene similarity (cut < {threshold})':34}{'lowest':>9}{'highest':>9}{'cuts found':>12}")
    for name, frames in clips.items():
        cuts = FILM_CUTS.get(name, [])
        within = [scene_similarity(frames[k - 1], frames[k]) for k in range(1, len(frames)) if k not in cuts]
        detector = CutDetector(threshold)
        found = [k for k, frame in enumerate(frames) if detector.cut_before(frame)]
        print(f"{name:34}{min(within):9.2f}{max(within):9.2f}{len(found):12d}")
        if cuts:
            across = [scene_similarity(frames[k - 1], frames[k]) for k in cuts]
            print(f"{'  its cuts ' + str(cuts):34}{min(across):9.2f}{max(across):9.2f}")
    joins = []
    for first, second in itertools.permutations(clips, 2):
        for share in (0.1, 0.5, 0.9):
            left, right = (clips[name][int(share * len(clips[name]))] for name in (first, second))
            resized = cv2.resize(right, left.shape[1::-1], interpolation=cv2.INTER_AREA)
            joins.append(scene_similarity(left, resized))
    found_joins = sum(value < threshold for value in joins)
    print(f"{f'{len(joins)} joins of two clips':34}{min(joins):9.2f}{max(joins):9.2f}{found_joins:12d}")


def best_of(work: Callable[[], object], repeats: int = 5) -> float:
    """Fastest of several runs, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def time_table(frames: list[NDArray[np.uint8]], factor: int = 8) -> None:
    """Time per output frame, one thread."""
    cv2.setNumThreads(1)
    interpolator = FlowInterpolator(threads=1)
    print(
        f"\n{'ms, 1 thread, 1280x720 RGB':34}{'prepare':>9}{'at':>9}{f'frame x{factor}':>14}{'cut test':>10}"
    )
    for label, first, last in (("moving", frames[38], frames[39]), ("fast", frames[36], frames[42])):
        pair = interpolator.prepare(first, last)
        list(pair.pictures([0.3]))
        prepare = best_of(lambda a=first, b=last: interpolator.prepare(a, b))
        at = best_of(lambda p=pair: list(p.pictures([0.3])))
        detector = CutDetector(UpsampleConfig().cut_threshold)
        cut = best_of(lambda d=detector, a=first, b=last: (d.cut_before(a), d.cut_before(b))) / 2
        each = (prepare + (factor - 1) * at) / factor
        print(f"{label:34}{prepare:9.1f}{at:9.1f}{each:14.1f}{cut:10.2f}")


def main() -> None:
    """Print the tables."""
    default = Path(os.environ.get("EVSIM_DATA", ".")) / "clips"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    missing = [name for name in NAMES if not (folder / name).exists()]
    if missing:
        print(f"{folder} has no {', '.join(missing)}; name their folder, or set EVSIM_DATA")
        return
    clips = {name: read_video(folder / name) for name in NAMES}
    prediction_table(clips)
    cut_table(clips)
    time_table(clips["bigbuckbunny.mp4"])


if __name__ == "__main__":
    main()
