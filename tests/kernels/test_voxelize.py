"""Every implementation of `voxelize` against the reference, and what all of them refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from kernel_conformance import KernelConformance
from numpy.typing import NDArray

from evsim.errors import BackendError, InputError
from evsim.kernels.voxelize import BACKENDS, Placement, PlaneLayout, cpu, gpu, voxelize

GPU_TOLERANCE = 2e-5
"""Atomics add in any order."""
SIZE = (37, 23)
SIGNED = PlaneLayout(5, 1, 0, 0)
EDGES: tuple[Literal["drop", "clamp"], ...] = ("drop", "clamp")
RULES = [
    Placement(np.array([1e9]), np.array([50_000.0]), steps, offset, interpolation, edge)  # type: ignore[arg-type]
    for steps, offset in ((4.0, 0.0), (5.0, -0.5), (7.3, -1.7))
    for interpolation in ("linear", "nearest")
    for edge in EDGES
]
COLUMN = {"whole": np.uint16, "subpixel": np.float32}


def columns(n: int, seed: int = 0, kind: str = "whole") -> tuple[NDArray[Any], ...]:
    """t, x, y, p of n sorted events; times reach over both ends of the windows of RULES."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(10**9 - 5000, 10**9 + 55_000, n))
    x, y = rng.uniform(0, SIZE[0], n), rng.uniform(0, SIZE[1], n)
    return t, x.astype(COLUMN[kind]), y.astype(COLUMN[kind]), rng.integers(0, 2, n).astype(np.uint8)


def run(
    events: tuple[Any, ...],
    placement: Placement = RULES[0],
    layout: PlaneLayout = SIGNED,
    *,
    ranges: list[tuple[int, int]] | None = None,
    dtype: Any = np.float32,
    **options: Any,
) -> Any:
    """The sum, in memory that held NaN (or nonsense) before."""
    windows = np.array([(0, len(events[0]))] if ranges is None else ranges, np.int64).reshape(-1, 2)
    count = len(windows)
    planes = layout.window * (count - 1) + 4 * layout.bin + max(layout.on, layout.off) + 1 if count else 0
    out = np.full((planes, *SIZE[::-1]), np.nan if dtype != np.int32 else -7, dtype)
    placed = placement._replace(
        start=np.resize(placement.start, count), duration=np.resize(placement.duration, count)
    )
    return voxelize(*events, bins=5, ranges=windows, placement=placed, layout=layout, out=out, **options)


class TestVoxelize(KernelConformance):
    backends = ("cpu", "gpu")
    atol = GPU_TOLERANCE

    @staticmethod
    def call(*events: NDArray[Any], backend: str) -> NDArray[Any]:
        out = np.empty((5, *SIZE[::-1]), np.float64 if backend == "reference" else np.float32)
        ranges = np.array([[0, len(events[0])]])
        return voxelize(
            *events, bins=5, ranges=ranges, placement=RULES[0], layout=SIGNED, out=out, backend=backend
        )

    @staticmethod
    def cases() -> dict[str, tuple[NDArray[Any], ...]]:
        return {f"{n} {kind}": columns(n, n, kind) for n in (0, 1, 63, 1500) for kind in COLUMN}


@pytest.mark.parametrize("n", [0, 1, 2, 63, 2049, 5000])
def test_backends_agree_with_the_reference_at_awkward_counts(n: int) -> None:
    for kind in COLUMN:
        events = columns(n, n, kind)
        for layout in (PlaneLayout(5, 1, 0, 0), PlaneLayout(10, 1, 0, 5), PlaneLayout(10, 2, 1, 0)):
            wanted = run(events, RULES[4], layout, backend="reference", dtype=np.float64)
            np.testing.assert_allclose(run(events, RULES[4], layout), wanted, atol=GPU_TOLERANCE)
            found = run(events, RULES[4], layout, backend="gpu")
            np.testing.assert_allclose(found, wanted, atol=GPU_TOLERANCE)


@pytest.mark.parametrize("placement", RULES, ids=lambda rule: "-".join(map(str, rule[2:])))
def test_backends_agree_for_every_way_to_place_events(placement: Placement) -> None:
    for kind in COLUMN:
        events = columns(700, 3, kind)
        wanted = run(events, placement, backend="reference", dtype=np.float64)
        assert np.isfinite(wanted).all()
        for backend in ("cpu", "gpu"):
            found = run(events, placement, backend=backend)
            np.testing.assert_allclose(found, wanted, atol=GPU_TOLERANCE, err_msg=backend)


@pytest.mark.parametrize("kind", COLUMN)
def test_deterministic_gpu_sum_equals_that_of_one_cpu_thread(kind: str) -> None:
    events = columns(3000, 5, kind)
    ranges = [(0, 1500), (700, 3000), (40, 40)]
    layout = PlaneLayout(10, 1, 0, 5)
    found = [run(events, layout=layout, ranges=ranges, backend="gpu", deterministic=True) for _ in range(2)]
    np.testing.assert_array_equal(*found)
    wanted = run(events, layout=layout, ranges=ranges, backend="cpu")
    np.testing.assert_allclose(found[0], wanted, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_overlapping_windows_each_have_their_own_planes(backend: str) -> None:
    events = columns(2000)
    ranges = [(0, 2000), (500, 900), (900, 900), (10, 1999)]
    grids = run(events, ranges=ranges, backend=backend).reshape(4, 5, *SIZE[::-1])
    for grid, (first, last) in zip(grids, ranges):
        alone = run(tuple(column[first:last] for column in events), backend=backend)
        np.testing.assert_allclose(grid, alone, atol=GPU_TOLERANCE)
    assert not grids[2].any()
    assert run(events, ranges=[], backend=backend).shape[0] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_planes_that_the_layout_leaves_out_are_not_touched(backend: str) -> None:
    out = run(columns(500), layout=PlaneLayout(0, 3, 0, 1), backend=backend)
    assert np.isnan(out[2::3]).all()
    assert np.isfinite(out[0::3]).all()
    assert np.isfinite(out[1::3]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_accumulation_adds_to_what_out_holds(backend: str) -> None:
    t, x, y, p = columns(800)
    options = {"bins": 5, "placement": RULES[0], "layout": PlaneLayout(5, 1, 0, 0), "backend": backend}
    out = np.ones((5, *SIZE[::-1]), np.float32)
    voxelize(t, x, y, p, ranges=np.array([[0, 300]]), out=out, accumulate=True, **options)  # type: ignore[arg-type]
    voxelize(t, x, y, p, ranges=np.array([[300, 800]]), out=out, accumulate=True, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(out, 1 + run((t, x, y, p), backend="reference"), atol=GPU_TOLERANCE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_integers_count_exactly(backend: str) -> None:
    events = columns(900)
    counts = run(events, RULES[2], PlaneLayout(10, 1, 0, 5), dtype=np.int32, backend=backend)
    floats = run(events, RULES[2], PlaneLayout(10, 1, 0, 5), backend="reference")
    np.testing.assert_array_equal(counts, floats)


def test_float64_sums_are_exact_where_float32_is_not() -> None:
    events = columns(2000)
    wanted = run(events, dtype=np.float64, backend="reference")
    np.testing.assert_allclose(run(events, dtype=np.float64), wanted, atol=1e-12)
    np.testing.assert_allclose(run(events, dtype=np.float64, backend="gpu"), wanted, atol=1e-12)


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize(
    "layout", [PlaneLayout(5, 1, 0, 0), PlaneLayout(10, 1, 5, 0)], ids=["signed", "split"]
)
def test_threads_give_the_same_sum_to_rounding(
    threads: int, layout: PlaneLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "THREAD_EVENTS", 10)
    events = columns(4000)
    for placement in (RULES[0], RULES[5], RULES[7]):
        wanted = run(events, placement, layout, backend="reference")
        np.testing.assert_allclose(run(events, placement, layout, threads=threads), wanted, atol=2e-5)
    ranges = [(0, 100), (100, 3000), (2000, 4000), (4000, 4000)]
    wanted = run(events, layout=layout, ranges=ranges, backend="reference")
    np.testing.assert_allclose(run(events, layout=layout, ranges=ranges, threads=threads), wanted, atol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensors_give_tensors(backend: str) -> None:
    events = columns(500)
    tensors = [torch.from_numpy(column) for column in events]
    out = torch.full((5, *SIZE[::-1]), torch.nan)
    found = voxelize(
        *tensors,
        bins=5,
        ranges=np.array([[0, 500]]),
        placement=RULES[0],
        layout=PlaneLayout(5, 1, 0, 0),
        out=out,
        backend=backend,
    )
    assert found is out
    np.testing.assert_allclose(out.numpy(), run(events, backend="reference"), atol=GPU_TOLERANCE)


def changed(column: int, row: int, value: float, kind: str = "whole") -> tuple[NDArray[Any], ...]:
    events = [array.copy() for array in columns(3000, kind=kind)]
    events[column][row] = value
    return tuple(events)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("events", "message"),
    [
        (lambda: changed(0, 1500, 5), "not in order of time: event 1500 "),
        (lambda: changed(1, 2999, SIZE[0]), "1 of 3000 events lie outside the sensor of 37x23: event 2999 "),
        (lambda: changed(2, 0, SIZE[1]), "outside the sensor of 37x23: event 0 "),
        (lambda: changed(1, 7, np.nan, "subpixel"), "outside the sensor of 37x23: event 7 "),
        (lambda: changed(2, 7, -1.5, "subpixel"), "outside the sensor of 37x23: event 7 "),
    ],
)
def test_events_out_of_order_or_outside_are_refused_by_row(
    backend: str, events: Callable[[], tuple[NDArray[Any], ...]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(events(), backend=backend)


def test_windows_without_duration_are_refused() -> None:
    with pytest.raises(InputError, match="no duration"):
        run(columns(5), RULES[0]._replace(duration=np.zeros(1)))


def test_a_forced_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    events = columns(5)
    with pytest.raises(BackendError, match="'gpus' does not exist for voxelize"):
        run(events, backend="gpus")
    monkeypatch.setenv("EVSIM_BACKEND", "cuda")
    with pytest.raises(BackendError, match="EVSIM_BACKEND"):
        run(events)
    monkeypatch.setenv("EVSIM_BACKEND", "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "InterpretedFunction", str)
    with pytest.raises(BackendError, match="finds no CUDA device"):
        run(events)
    monkeypatch.delenv("EVSIM_BACKEND")
    monkeypatch.setitem(BACKENDS, "gpu", "evsim.kernels.voxelize.nowhere")
    with pytest.raises(BackendError, match="cannot run here"):
        run(events, backend="gpu")


def test_threads_refuse_events_out_of_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "THREAD_EVENTS", 10)
    for row in (1, 1500, 2999):
        with pytest.raises(InputError, match="not in order of time"):
            run(changed(0, row, 5), threads=2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_disorder_inside_one_bin_is_refused(backend: str) -> None:
    t, x, y, p = (column.copy() for column in columns(3000))
    t[1000], t[1001] = 10**9 + 20_001, 10**9 + 20_000
    t[:1000], t[1002:] = 10**9 + 20_000, 10**9 + 20_001
    with pytest.raises(InputError, match="not in order of time: event 1001 "):
        run((t, x, y, p), backend=backend)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("placement", [RULES[0], RULES[1], RULES[4], RULES[5]], ids=str)
@pytest.mark.parametrize(
    "layout", [PlaneLayout(5, 1, 0, 0), PlaneLayout(10, 1, 5, 0)], ids=["signed", "split"]
)
def test_windows_with_more_events_than_pixels(
    layout: PlaneLayout, placement: Placement, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "THREAD_EVENTS", 10)
    t, x, y, p = columns(20_000, 4)
    t = np.sort(np.concatenate([t[:400], t[:19_600] // 3 + 2 * 10**9 // 3 + 7]))  # one interval holds most
    wanted = run((t, x, y, p), placement, layout, backend="reference", dtype=np.float64)
    found = run((t, x, y, p), placement, layout, threads=threads)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    out = np.ones_like(found)
    voxelize(
        t,
        x,
        y,
        p,
        bins=5,
        ranges=np.array([[0, len(t)]]),
        placement=placement,
        layout=layout,
        out=out,
        accumulate=True,
        threads=threads,
    )
    np.testing.assert_allclose(out, 1 + wanted, atol=1e-4)
