"""Work over bands of rows: everything covered once, errors surface, small work stays on one thread."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from evsim.kernels.threads import bands
from evsim.kernels.threads.bands import RowBands


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [1, 2, 10, 33])
def test_every_row_is_visited_once(threads: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "SMALLEST_BAND", 1)
    visits = np.zeros(rows, int)

    def visit(target: np.ndarray, top: int, end: int) -> None:
        target[top:end] += 1

    RowBands(threads).run(visit, (rows, 5), visits)
    assert visits.tolist() == [1] * rows


def test_an_error_in_any_band_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "SMALLEST_BAND", 1)

    def fail(top: int, end: int) -> None:
        if top:
            raise ValueError(f"rows {top} to {end}")

    with pytest.raises(ValueError, match="rows 5 to 10"):
        RowBands(2).run(fail, (10, 1))


def test_small_work_starts_no_thread() -> None:
    before = threading.active_count()
    work = RowBands(4)
    work.run(lambda top, end: None, (10, 10))
    assert threading.active_count() == before
