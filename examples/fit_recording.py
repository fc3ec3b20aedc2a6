"""Video from the events of one recording, by a fit of EvINR's network and by total variation.

Usage: python examples/fit_recording.py [ITERATIONS [RECORDING]]. By default 100 steps on a toy recording:
half a second of the demo's photograph, seen through a window of 64x48 pixels that moves over it.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

import evsim
from evsim.formats import NativeWriter, open_events
from evsim.metrics.alignment import aligned_scores
from evsim.models.prediction.parts import make_predictor
from evsim.models.prediction.scene import Scene
from evsim.models.registry import entry
from evsim.models.training.runs import task_entry
from evsim.models.training.scene_task import fit_to_folder

CPU = torch.device("cpu")
WIDTH, HEIGHT, FRAMES = 64, 48, 25


def write_toy_recording(file: Path) -> None:
    """The events of 25 frames 20 ms apart, and every fourth frame to compare with."""
    from evsim.pipelines.demo import photograph  # which loads all that draws the demo's report

    picture = cv2.resize(
        cv2.imread(str(photograph()), cv2.IMREAD_GRAYSCALE), (104, 90), interpolation=cv2.INTER_AREA
    )
    phases = np.linspace(0, np.pi, FRAMES)
    corners = [(round(18 + 16 * np.sin(phase)), round(20 + 14 * np.cos(phase))) for phase in phases]
    frames = np.stack([picture[y : y + HEIGHT, x : x + WIDTH] for x, y in corners])
    times_ns = np.arange(FRAMES) * 20_000_000
    events = evsim.simulate(frames, times_ns, preset="ideal")
    with NativeWriter(file, WIDTH, HEIGHT) as writer:
        writer.append(events)
        for frame, t_ns in zip(frames[::4], times_ns[::4]):
            writer.append_image(frame, t_ns / 1000)


def main(iterations: str = "100", file: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not file:
            file = f"{folder}/toy.h5"
            write_toy_recording(Path(file))
        fit_both(file, int(iterations), Path(folder))


def fit_both(file: str, iterations: int, folder: Path) -> None:
    with open_events(file) as recording:
        truth = np.stack([image.image for image in recording.images()])
        times, scene = recording.image_times(), Scene(recording=recording)
        print(f"{file}: {len(recording)} events, {len(times)} images to compare with")

        # What `evsim train evinr` runs: a fit in a folder, which can be stopped and resumed.
        task = task_entry("evinr")
        config = task.config(iterations=iterations)
        fitted = fit_to_folder("evinr", task, recording, config, folder / "fit", device=CPU)
        print(f"evinr: {fitted.steps} steps in {fitted.seconds:.1f} s, loss {fitted.loss:.4g}")

        # What `evsim reconstruct` runs: images of a scene at any times, whatever makes them.
        for name, weights in (("evinr", fitted.weights), ("variational", None)):
            options = entry(name).options(output="log")
            predictor = make_predictor(name, options, weights=weights, device=CPU)
            levels = np.stack(list(predictor.images(scene, times)))
            scores = aligned_scores(levels, truth)
            print(f"{name}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
