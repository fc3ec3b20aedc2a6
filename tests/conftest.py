"""Where the suite finds parity fixtures and real recordings, and which tests they decide.

EVSIM_PARITY and EVSIM_DATA name the two folders. Tests that need a folder that is not named are not
collected; the report header says how many cases that leaves out. Nothing is skipped at run time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDERS = {"needs_parity": "EVSIM_PARITY", "needs_data": "EVSIM_DATA"}


def _folder(variable: str) -> Path | None:
    return Path(os.environ[variable]).resolve() if os.environ.get(variable) else None


def pytest_configure(config: pytest.Config) -> None:
    for marker, variable in FOLDERS.items():
        config.addinivalue_line("markers", f"{marker}: collected only when {variable} names a folder")


def pytest_report_header() -> list[str]:
    return [f"{variable}={os.environ.get(variable) or 'unset'}" for variable in FOLDERS.values()]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    absent = [marker for marker, variable in FOLDERS.items() if _folder(variable) is None]
    left_out = [item for item in items if any(item.get_closest_marker(marker) for marker in absent)]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of parity fixtures."""
    folder = _folder("EVSIM_PARITY")
    assert folder is not None, "mark the test needs_parity"
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real clips and recordings."""
    folder = _folder("EVSIM_DATA")
    assert folder is not None, "mark the test needs_data"
    return folder
