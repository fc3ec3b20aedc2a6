"""Aligned scores and processor time of every way from events to video, on the same recordings.

    python benchmarks/reconstruction.py [--scenes FOLDER] [--clips FOLDER] [--weights FILE]
        [--only SCENE ...] [--methods METHOD ...] [--size 160x120] [--preset v2e-clean]

Recordings: the two synthetic scenes of the EvINR fixtures (evinr_e2e.npz and evinr_e2e_noisy.npz in --scenes,
default EVSIM_PARITY), and excerpts of three real clips (in --clips, default clips/ under EVSIM_DATA) through
`evsim simulate video`, centre crops at --size. Methods: per-pixel integration, FireNet+ (--weights, or the
published file in the weights folder), and all that are registered as offline methods; EvINR once as published
(compat) and once with evsim's defaults.

One gain and one offset of log intensity are fitted to each sequence before scores are taken (log-affine), at
every stored frame but the first, for which a recurrent network has no window. CPU s is processor time of one
thread for the whole sequence, from the open file to the last image, after a first run on a few events that
loads and compiles.
"""

from __future__ import annotations

import os

ONE_THREAD = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(ONE_THREAD, "1"))

import argparse  # noqa: E402 - libraries read the variables when they are loaded
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator, Mapping  # noqa: E402
from dataclasses import fields  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from evsim.events import Events  # noqa: E402
from evsim.formats import NativeWriter, open_events  # noqa: E402
from evsim.formats.storage.windows import windows_between_images  # noqa: E402
from evsim.media import luma  # noqa: E402
from evsim.metrics.alignment import DARKEST, aligned_scores  # noqa: E402
from evsim.models.prediction.needs import Needs  # noqa: E402
from evsim.models.prediction.parts import make_predictor  # noqa: E402
from evsim.models.prediction.predictor import predict  # noqa: E402
from evsim.models.prediction.scene import Scene  # noqa: E402
from evsim.models.registry import entry, names  # noqa: E402
from evsim.represent import integrate  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SCENES = {"scene": "evinr_e2e.npz", "scene, noisy": "evinr_e2e_noisy.npz"}
SCENE_THRESHOLD = 0.25
CLIPS = {
    "bikes": ("bikes.mp4", 0.0, 1.0),
    "pedestrians": ("pedestrians.avi", 0.0, 2.0),
    "street": ("vid2e_street_346x260/video.mp4", 0.0, 1.0),
}
"""File, and the excerpt in seconds."""
VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "evinr": {"evinr, upstream": {"compat": True}, "evinr": {}},
}
"""Offline methods that are shown with more than their defaults: row to options."""
METRICS = ("mse@log-affine", "ssim:evreal@log-affine")


class Method(NamedTuple):
    """A row. make: of the contrast threshold. logarithmic: gives log intensity instead of light."""

    make: Callable[[float], Any]
    logarithmic: bool


class Integration:
    """Sum of the events of each pixel times the threshold, less its own mean over the sequence."""

    facts: Mapping[str, Any] = {}
    needs = Needs(events=True, weights="none")

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def images(
        self, scene: Scene, times_us: NDArray[np.float64], *, report: Any = None
    ) -> Iterator[NDArray[np.float32]]:
        """Log intensity (H, W) at each time."""
        levels = integrate(
            scene.event_recording.events(),
            times_us,
            contrast_threshold_on=self.threshold,
            contrast_threshold_off=self.threshold,
        )
        yield from levels - levels.mean(0)


def known_methods(weights: str | None) -> dict[str, Method]:
    """All rows, in the order of the table."""

    def firenet(threshold: float) -> Any:
        return make_predictor("firenet", weights=weights, device=torch.device("cpu"))

    rows = {"integration": Method(Integration, True), "firenet-plus": Method(firenet, False)}
    for name in (name for name in names("reconstruct") if entry(name).is_fitted):
        chosen = "output" in {field.name for field in fields(entry(name).options)}
        for row, options in VARIANTS.get(name, {name: {}}).items():
            make = _fit(name, {**options, "output": "log"} if chosen else options)
            rows[row] = Method(make, chosen or hasattr(make(SCENE_THRESHOLD), "log_intensities"))
    return rows


def _fit(name: str, options: Mapping[str, Any]) -> Callable[[float], Any]:
    """What makes a fitted method for a threshold; the published EvINR takes every event for 1."""

    def make(threshold: float) -> Any:
        known = {} if options.get("compat") else {"event_threshold": threshold}
        return make_predictor(name, {**options, **known}, device=torch.device("cpu"))

    return make


def write_scene(arrays: Mapping[str, Any], path: Path) -> float:
    """A fixture as an event file with images; the threshold."""
    t, x, y, p = np.asarray(arrays["events"]).T
    height, width = arrays["gt_frames"].shape[1:]
    events = Events(
        np.round(t * 1e6).astype(np.int64),
        x.astype(np.uint16),
        y.astype(np.uint16),
        (p > 0).astype(np.uint8),
        width,
        height,
    )
    with NativeWriter(path, width, height) as writer:
        writer.append(events)
        for image, seconds in zip(arrays["gt_frames"], arrays["gt_times"]):
            writer.append_image(image, float(seconds) * 1e6)
    return SCENE_THRESHOLD


def simulate(
    clip: Path, start_s: float, stop_s: float, width: int, height: int, preset: str, path: Path
) -> float:
    """An excerpt of a clip as an event file with grey images; the nominal threshold."""
    video = cv2.VideoCapture(str(clip))
    scale = max(width / video.get(cv2.CAP_PROP_FRAME_WIDTH), height / video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    left, top = (
        round((side - wanted / scale) / 2)
        for side, wanted in (
            (video.get(cv2.CAP_PROP_FRAME_WIDTH), width),
            (video.get(cv2.CAP_PROP_FRAME_HEIGHT), height),
        )
    )
    line = [sys.executable, "-m", "evsim", "simulate", "video", str(clip), "-o", str(path)]
    line += ["--preset", preset, "--factor", "auto", "--start", str(start_s), "--stop", str(stop_s)]
    line += ["--crop", f"{left},{left},{top},{top}", "--size", f"{width}x{height}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, env=environment)
    with open_events(path) as recording:
        return float(json.loads(recording.attributes["config"])["sensor"]["contrast_threshold_on"])


def score(method: Method, threshold: float, path: Path) -> tuple[dict[str, float], float]:
    """Aligned scores by id, and the processor seconds of the reconstruction."""
    predictor = method.make(threshold)
    with open_events(path) as recording:
        truth = [luma(image.image) if image.image.ndim > 2 else image.image for image in recording.images()]
        times = recording.image_times()
        started = time.process_time()
        if hasattr(predictor, "log_intensities"):
            # Log intensity where the method has it, for its display curve loses the dark and the bright.
            images = list(predictor.log_intensities(recording, times[1:]))
        else:
            scene = Scene(recording=recording, windows=lambda: windows_between_images(recording))
            images = [one.image for one in predict(predictor, scene, times[1:])]
        seconds = time.process_time() - started
    found = np.stack(images)
    level = found if method.logarithmic else np.log(np.maximum(found, DARKEST))
    return dict(aligned_scores(level, np.stack(truth[1:]))), seconds


def warm_up(rows: Mapping[str, Method], path: Path, folder: Path) -> None:
    """Each method once on a short part of a recording: nothing is loaded or compiled while it is timed."""
    short = folder / "short.h5"
    with open_events(path) as recording, NativeWriter(short, recording.width, recording.height) as writer:
        images = list(recording.images())[:4]
        writer.append(recording.between(0, round(images[-1].t_us)))
        for image in images:
            writer.append_image(image.image, image.t_us)
    for name, method in rows.items():
        if name != "evinr, upstream":  # a thousand steps whatever the recording, of what evinr has loaded
            score(method, SCENE_THRESHOLD, short)


def main() -> None:
    """Print one table."""
    arguments = parse()
    torch.set_num_threads(1)
    rows = known_methods(arguments.weights)
    rows = {name: row for name, row in rows.items() if not arguments.methods or name in arguments.methods}
    width, height = map(int, arguments.size.split("x"))
    scenes = arguments.only or [*SCENES, *CLIPS]
    cells: dict[str, list[str]] = {name: [] for name in rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for scene in scenes:
            path = folder / f"{scene.replace(', ', '-')}.h5"
            if scene in SCENES:
                threshold = write_scene(np.load(arguments.scenes / SCENES[scene]), path)
            else:
                file, start_s, stop_s = CLIPS[scene]
                clip = arguments.clips / file
                threshold = simulate(clip, start_s, stop_s, width, height, arguments.preset, path)
            if scene == scenes[0]:
                warm_up(rows, path, folder)
            for row, method in rows.items():
                means, seconds = score(method, threshold, path)
                cells[row].append(
                    " / ".join([f"{means[METRICS[0]]:.4f}", f"{means[METRICS[1]]:.3f}", f"{seconds:.2f}"])
                )
                print(f"{scene}: {row} {cells[row][-1]}", file=sys.stderr)
    print(f"| {' / '.join(METRICS)} / CPU s | {' | '.join(scenes)} |\n|{'---|' * (1 + len(scenes))}")
    for row in rows:
        print(f"| {row} | {' | '.join(cells[row])} |")


def parse() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Aligned scores of every way from events to video.")
    data, parity = os.environ.get("EVSIM_DATA", ""), os.environ.get("EVSIM_PARITY", "")
    parser.add_argument("--scenes", type=Path, default=Path(parity), help="Folder of the fixtures.")
    parser.add_argument("--clips", type=Path, default=Path(data) / "clips", help="Folder of the clips.")
    parser.add_argument("--weights", help="FireNet+: file, or name of a published one.")
    parser.add_argument("--only", nargs="+", choices=[*SCENES, *CLIPS], help="These recordings.")
    parser.add_argument("--methods", nargs="+", help="These rows.")
    parser.add_argument("--size", default="160x120", help="Of the clips: centre crop, then resized.")
    parser.add_argument("--preset", default="v2e-clean", help="Of the sensor that sees the clips.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
