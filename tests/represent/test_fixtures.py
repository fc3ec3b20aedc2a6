"""Representations against numbers of the published code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from evsim.events import Events
from evsim.represent import (
    eger,
    egers,
    evinr_stack,
    frames_to_voxel,
    normalize,
    reverse_time,
    target_voxels,
    voxel_grid,
)


def events_of(
    t: NDArray, x: NDArray, y: NDArray, p: NDArray, size: tuple[int, int], *, whole: bool = False
) -> Events:
    kind = np.uint16 if whole else x.dtype
    return Events(t, x.astype(kind), y.astype(kind), (p > 0).astype(np.uint8), *size)


def of_fixture(fixture: NpzFile, time: str = "t") -> Events:
    size = (int(fixture["width"]), int(fixture["height"]))
    return events_of(fixture[time], fixture["x"], fixture["y"], fixture["p"], size)


@pytest.mark.needs_parity("voxel_ner_{case}.npz")
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("case", ["a", "b"])
def test_ner_voxel_grids_and_normalizations(parity: Path, case: str, backend: str) -> None:
    fixture = np.load(parity / f"voxel_ner_{case}.npz")
    bins, height, width = fixture["size"].tolist()
    columns = [fixture[name] for name in "txyp"]
    events = events_of(*columns, (width, height), whole=True)
    voxel = voxel_grid(events, bins, rule="ner", backend=backend)
    np.testing.assert_allclose(voxel, fixture["voxel"], atol=3e-6)
    split = voxel_grid(events, bins, rule="ner", polarity="split", backend=backend)
    np.testing.assert_allclose(split[:bins], fixture["voxel_pos"], atol=3e-6)
    np.testing.assert_allclose(split[bins:], fixture["voxel_neg"], atol=3e-6)
    off_first = voxel_grid(events, bins, rule="ner", polarity="split_off_first", backend=backend)
    np.testing.assert_allclose(off_first[:bins], fixture["voxel_neg"], atol=3e-6)
    for name, key in (("nonzero", "legacynorm"), ("robust", "robustnorm"), ("evreal", "evrealnorm")):
        normal = voxel_grid(events, bins, rule="ner", normalization=name, backend=backend)
        np.testing.assert_allclose(normal, fixture[f"voxel_{key}"], atol=2e-5)
        np.testing.assert_allclose(normalize(fixture["voxel"], name), fixture[f"voxel_{key}"], atol=1e-6)


@pytest.mark.needs_parity("voxel_timelens_rc_{case}.npz")
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("case", ["float_xy", "int_xy"])
def test_timelens_voxel_grids_on_both_sides_of_targets(parity: Path, case: str, backend: str) -> None:
    fixture = np.load(parity / f"voxel_timelens_rc_{case}.npz")
    events = of_fixture(fixture)
    voxels = target_voxels(events, fixture["split_times"], int(fixture["num_bins"]), backend=backend)
    np.testing.assert_allclose(voxels.before, fixture["voxel_before"], atol=2e-6)
    np.testing.assert_allclose(voxels.reversed_before, fixture["voxel_before_reversed"], atol=2e-6)
    np.testing.assert_allclose(voxels.after, fixture["voxel_after"], atol=2e-6)
    target = fixture["split_times"][-1]
    last = voxel_grid(events.between(0, target), 5, rule="timelens", window=(events.t[0], target))
    np.testing.assert_allclose(last, voxels.before[-1], atol=2e-6)


@pytest.mark.needs_parity("voxel_timelens_rpg.npz")
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_rpg_timelens_voxel_grids_between_frame_times(parity: Path, backend: str) -> None:
    fixture = np.load(parity / "voxel_timelens_rpg.npz")
    window = (float(fixture["start_time"]), float(fixture["end_time"]))
    targets = np.linspace(*window, int(fixture["num_inserted"]) + 2)[1:-1]
    events = of_fixture(fixture, "t_seconds")
    voxels = target_voxels(events, targets, 5, rule="rpg", window=window, backend=backend)
    np.testing.assert_allclose(voxels.before, fixture["voxel_before"], atol=2e-6)
    np.testing.assert_allclose(voxels.reversed_before, fixture["voxel_before_reversed"], atol=2e-6)
    np.testing.assert_allclose(voxels.after, fixture["voxel_after"], atol=2e-6)


@pytest.mark.needs_parity("voxel_timelens_uniform16.npz")
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_timelens_xl_uniform_bins(parity: Path, backend: str) -> None:
    fixture = np.load(parity / "voxel_timelens_uniform16.npz")
    voxel = voxel_grid(of_fixture(fixture), int(fixture["channels"]), rule="timelens_xl", backend=backend)
    np.testing.assert_allclose(voxel, fixture["voxel"], atol=2e-6)


@pytest.mark.needs_parity("voxel_timelens_gopro.npz")
def test_timelens_voxel_grids_of_simulated_polarity_frames(parity: Path) -> None:
    fixture = np.load(parity / "voxel_timelens_gopro.npz")
    frames, bins = fixture["event_frames"], int(fixture["num_bins"])
    for index, target in enumerate(fixture["sample_t"]):
        split = int(fixture["rgb_sampling_ratio"]) * int(target)
        before, after = frames_to_voxel(frames[:split], bins), frames_to_voxel(frames[split:], bins)
        np.testing.assert_allclose(before, fixture["voxel_before"][index], atol=2e-6)
        np.testing.assert_allclose(reverse_time(before), fixture["voxel_before_reversed"][index], atol=2e-6)
        np.testing.assert_allclose(after, fixture["voxel_after"][index], atol=2e-6)
    short = frames_to_voxel(fixture["short_frames"], bins)
    np.testing.assert_array_equal(short, fixture["short_before"])
    np.testing.assert_array_equal(reverse_time(short), fixture["short_before_reversed"])


@pytest.mark.needs_parity("gem_eger.npz")
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_eger_is_exact_in_all_published_cases(parity: Path, backend: str) -> None:
    fixture = np.load(parity / "gem_eger.npz")
    height, width = fixture["sensor_hw"].tolist()
    columns = [fixture[name] for name in "txyp"]
    events = events_of(*columns, (width, height), whole=True)
    for index, (bins, a, b, s, e, *roi, _) in enumerate(fixture["cases"]):
        corner = tuple(int(value) for value in roi)
        grid = eger(events, (a, b), (s, e), bins=int(bins), roi=corner, backend=backend)
        np.testing.assert_array_equal(
            grid, fixture[f"case{index}_eger"], err_msg=fixture["case_names"][index]
        )
    whole = [0, 3, 4, 5, 6, 7]
    many = egers(events, fixture["cases"][whole, 1:3], fixture["cases"][whole, 3:5], backend=backend)
    for grid, index in zip(many, whole):
        np.testing.assert_array_equal(grid, fixture[f"case{index}_eger"])


@pytest.mark.needs_parity("evinr_stack_{case}.npz")
@pytest.mark.parametrize("case", ["a_mono", "b_window_thresh", "c_color", "d_portrait"])
def test_evinr_stacks(parity: Path, case: str) -> None:
    fixture = np.load(parity / f"evinr_stack_{case}.npz")
    t, x, y, p = fixture["events"].T
    events = events_of(t - t[0], x, y, p, (int(fixture["W"]), int(fixture["H"])), whole=True)
    for count in fixture["frames"].tolist():
        stack = evinr_stack(
            events,
            count,
            contrast_threshold=float(fixture["event_thresh"]),
            window=(float(fixture["t_start"]), float(fixture["t_end"])),
            color=bool(fixture["color_event"]),
            landscape=True,
        )
        np.testing.assert_array_equal(stack.frames, fixture[f"stack_{count}"])
        np.testing.assert_allclose(stack.stamps, fixture[f"timestamps_{count}"], atol=1e-7)
        assert stack.borders.shape == (count + 1, 1)
        assert (stack.borders[:-1] < stack.stamps).all()
        assert (stack.stamps < stack.borders[1:]).all()
