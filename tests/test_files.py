"""Outputs appear complete or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evsim.errors import InputError, RunError
from evsim.files import atomic_output, remove_abandoned


def contents(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "out.txt"
    with atomic_output(final) as temporary:
        temporary.write_text("half")
        assert not final.exists()
        assert temporary.parent == final.parent
        assert temporary.suffix == ".txt"
    assert final.read_text() == "half"
    assert contents(final.parent) == ["out.txt"]


def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "out.txt"
    final.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_output(final, overwrite=True) as temporary:
        temporary.write_text("new")
        raise KeyboardInterrupt
    assert final.read_text() == "old"
    assert contents(tmp_path) == ["out.txt"]


def test_an_existing_output_is_refused_before_any_work(tmp_path: Path) -> None:
    final = tmp_path / "out.txt"
    final.write_text("old")
    with pytest.raises(InputError, match=r"out\.txt exists; choose another output or pass --overwrite"):
        with atomic_output(final):
            pytest.fail("the body ran")


@pytest.mark.parametrize("old", ["file", "folder"])
def test_a_folder_replaces_what_was_there(old: str, tmp_path: Path) -> None:
    final = tmp_path / "out"
    if old == "file":
        final.write_text("old")
    else:
        (final / "old").mkdir(parents=True)
    with atomic_output(final, overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / "new.txt").write_text("new")
    assert contents(final) == ["new.txt"]
    assert contents(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_full_disk_is_one_clear_error(number: int, hidden: bool, tmp_path: Path) -> None:
    # Libraries report the reason as text only: "(file write failed: errno = 28, error message = ...)".
    problem = (
        RuntimeError(f"write failed: errno = {number}, x") if hidden else OSError(number, os.strerror(number))
    )
    with pytest.raises(RunError, match="nothing was kept"), atomic_output(tmp_path / "out.txt") as temporary:
        temporary.write_text("half")
        raise problem
    assert contents(tmp_path) == []


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from evsim.files import atomic_output\n"
        "with atomic_output(sys.argv[1]) as temporary:\n"
        "    temporary.mkdir(); (temporary / 'a').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], cwd=Path(__file__).parent.parent
    )
    assert killed.returncode == -9
    assert len(contents(tmp_path)) == 1
    with atomic_output(tmp_path / "other.txt") as temporary:
        temporary.write_text("done")
        # A file that is being written is not touched by another run's cleaning.
        assert remove_abandoned(tmp_path) == []
    assert contents(tmp_path) == ["other.txt"]
