"""docs/threads.md names a test for what it says: each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
FILES = {
    "P": TESTS / "kernels/test_thread_pool.py",
    "C": TESTS / "kernels/test_counters.py",
    "B": TESTS / "kernels/test_bands.py",
    "S": TESTS / "sensor/test_sensor_batch.py",
}


def test_every_test_that_the_page_names_exists() -> None:
    page = (TESTS.parent / "docs/threads.md").read_text(encoding="utf-8")
    named, file = 0, "P"
    for letter, name in re.findall(r"(?:\b([PCBS]) )?`(test_\w+)`", page):
        file = letter or file  # one letter stands for all tests that follow it
        assert f"def {name}(" in FILES[file].read_text(encoding="utf-8"), f"{file} {name}"
        named += 1
    assert named > 25
