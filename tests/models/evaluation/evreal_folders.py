"""EVREAL sequence folders made of arrays, for the tests of evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_evreal_folder(
    folder: Path,
    times: np.ndarray,
    xy: np.ndarray,
    polarity: np.ndarray,
    images: np.ndarray | None = None,
    image_times: np.ndarray | None = None,
    indices: np.ndarray | None = None,
) -> Path:
    """Write the arrays as EVREAL has them; indices follow from the times, as its converter has it."""
    folder.mkdir(parents=True)
    np.save(folder / "events_ts.npy", times.astype(np.float64))
    np.save(folder / "events_xy.npy", xy.astype(np.int16))
    np.save(folder / "events_p.npy", polarity.astype(np.uint8))
    size = (xy.max(0)[::-1] + 1).tolist()
    if images is not None and image_times is not None:
        size = list(images.shape[1:3])
        if indices is None:
            found = np.searchsorted(times, image_times, side="right") - 1
            indices = np.clip(found, 0, len(times) - 1)
        np.save(folder / "images.npy", images.reshape(*images.shape[:3], 1))
        np.save(folder / "images_ts.npy", image_times.reshape(-1, 1))
        np.save(folder / "image_event_indices.npy", indices.reshape(-1, 1))
    (folder / "metadata.json").write_text(json.dumps({"sensor_resolution": size}))
    return folder


def from_scene(folder: Path, arrays: np.lib.npyio.NpzFile) -> Path:
    """The folder of a fixture with events (N, 4) t, x, y, p and gt_frames, gt_times."""
    t, x, y, p = arrays["events"].T
    return write_evreal_folder(folder, t, np.stack((x, y), 1), p > 0, arrays["gt_frames"], arrays["gt_times"])
