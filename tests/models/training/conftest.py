"""A recording and a configuration small enough to train FireNet in a blink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evsim.events import Events
from evsim.formats import NativeWriter


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events of 24 x 16 pixels with six images."""
    path = tmp_path_factory.mktemp("recording") / "a.h5"
    rs = np.random.RandomState(0)
    t = np.sort(rs.randint(0, 60_000, 600))
    x, y = (rs.randint(0, size, 600).astype(np.uint16) for size in (24, 16))
    p = rs.randint(0, 2, 600).astype(np.uint8)
    with NativeWriter(path, 24, 16) as writer:
        writer.append(Events(t=t, x=x, y=y, p=p, width=24, height=16))
        for k in range(6):
            writer.append_image(rs.randint(0, 255, (16, 24)).astype(np.uint8), 10_000 * k)
    return path


@pytest.fixture
def tree(recording: Path) -> dict[str, Any]:
    return {
        "network": {"channels": 4, "bins": 3},
        "data": {"train": [str(recording)], "sequences": {"length": 2}},
        "training": {"steps": 4, "device": "cpu", "batch_size": 1},
    }
