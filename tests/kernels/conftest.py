"""Cases and backends of conformance classes, and memory that holds nonsense before it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from kernel_conformance import parametrize, poison


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc)


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """A context in which uninitialised memory holds NaN and the largest integers."""
    return contextlib.contextmanager(lambda: poison(monkeypatch))
