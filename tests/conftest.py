"""Where the suite finds parity fixtures and real recordings, and which tests they decide.

EVSIM_PARITY and EVSIM_DATA name the two folders. Without EVSIM_PARITY the few small fixtures under
tests/parity are used, and a test is collected if all files that its marker names are there:
``needs_parity("voxel_ner_{case}.npz")``, where {case} is a parameter of the test. Tests that need a file or
folder that is absent are not collected; the summary counts them as deselected. Nothing is skipped while
running.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

COMMITTED = Path(__file__).resolve().parent / "parity"


def _folder(variable: str) -> Path | None:
    return Path(os.environ[variable]).resolve() if os.environ.get(variable) else None


def pytest_configure(config: pytest.Config) -> None:
    if not Path("/dev/nvidiactl").exists():
        # Read when a kernel is defined: without a GPU, Triton kernels run in Triton's interpreter.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A script ignores it for what it runs in the background, and so would all that the tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        "needs_parity(*files): fixtures the test reads; without EVSIM_PARITY only those under tests/parity",
    )
    config.addinivalue_line("markers", "needs_data: collected only when EVSIM_DATA names a folder")


def pytest_report_header() -> list[str]:
    cases = len(list(COMMITTED.glob("*.npz")))
    parity = _folder("EVSIM_PARITY") or f"unset: the {cases} fixtures committed under tests/parity"
    return [f"EVSIM_PARITY {parity}", f"EVSIM_DATA {_folder('EVSIM_DATA') or 'unset: no real recordings'}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if not _has_what_it_needs(item)]
    if left_out:
        items[:] = [item for item in items if item not in set(left_out)]
        config.hook.pytest_deselected(items=left_out)


def _has_what_it_needs(item: pytest.Item) -> bool:
    if item.get_closest_marker("needs_data") and _folder("EVSIM_DATA") is None:
        return False
    markers = list(item.iter_markers("needs_parity"))
    if not markers or _folder("EVSIM_PARITY") is not None:
        return True
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    files = [name.format(**parameters) for marker in markers for name in marker.args]
    return bool(files) and all((COMMITTED / name).is_file() for name in files)


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of parity fixtures."""
    return _folder("EVSIM_PARITY") or COMMITTED


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real clips and recordings."""
    folder = _folder("EVSIM_DATA")
    assert folder is not None, "mark the test needs_data"
    return folder


@pytest.fixture
def exit_code_of_fork() -> Callable[[Callable[[], object]], int]:
    """Runs a function in a forked process: 0 if it returned something true, -9 if it hung for 30 s."""

    def run(function: Callable[[], object]) -> int:
        process = os.fork()
        if process == 0:
            code = 1
            try:
                code = 0 if function() else 2
            finally:
                os._exit(code)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    return run
