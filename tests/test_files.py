"""Outputs appear complete or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evsim import files, temporaries
from evsim.errors import InputError, RunError
from evsim.files import atomic_output, remove_abandoned, remove_leftovers

ROOT = Path(__file__).parent.parent


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


def run_to_its_end(body: str, *arguments: object) -> int:
    """The exit status of a program that has what these tests kill it with."""
    code = (
        "import os, signal, sys, time\nfrom pathlib import Path\nfrom evsim import files, temporaries\n"
        "from evsim.files import atomic_output\nkill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    words = [sys.executable, "-c", code + body, *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT).returncode


def make_folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "content.txt").write_text(text)
    return path


def text_in(path: Path) -> str:
    return (path / "content.txt").read_text()


REPLACE = (
    "with atomic_output(sys.argv[1], overwrite=True) as temporary:\n"
    "    temporary.mkdir(); (temporary / 'content.txt').write_text('new')\n"
)
WITHOUT_EXCHANGE = "files._exchange = lambda *_: False\nrename = Path.rename\n"


def test_a_folder_takes_the_place_of_another_in_one_step(tmp_path: Path) -> None:
    final = make_folder(tmp_path / "out", "old")
    killed_after = "files.remove = kill\n"
    assert run_to_its_end(killed_after + REPLACE, final) == -signal.SIGKILL
    assert text_in(final) == "new"
    assert len(contents(tmp_path)) == 2
    with atomic_output(tmp_path / "other.txt") as temporary:
        temporary.write_text("done")
    assert contents(tmp_path) == ["other.txt", "out"]


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_the_old_folder_is_back_if_it_stepped_aside_in_vain(tmp_path: Path, suffix: str) -> None:
    final = make_folder(tmp_path / f"out{suffix}", "old")
    killed_between = WITHOUT_EXCHANGE + "Path.rename = lambda *names: (rename(*names), kill())\n"
    assert run_to_its_end(killed_between + REPLACE, final) == -signal.SIGKILL
    assert not final.exists()
    with pytest.raises(InputError, match="exists"), atomic_output(final):
        pytest.fail("the body ran")
    assert text_in(final) == "old"
    assert contents(tmp_path) == [final.name]


def test_what_stepped_aside_goes_once_it_is_replaced(tmp_path: Path) -> None:
    final = make_folder(tmp_path / "out", "old")
    killed_after = WITHOUT_EXCHANGE + "files.remove = kill\n"
    assert run_to_its_end(killed_after + REPLACE, final) == -signal.SIGKILL
    assert text_in(final) == "new"
    remove_abandoned(tmp_path)
    assert contents(tmp_path) == ["out"]
    assert text_in(final) == "new"


def test_neither_folder_is_lost_if_somebody_takes_the_name_meanwhile(tmp_path: Path) -> None:
    final = make_folder(tmp_path / "out", "old")
    killed_between = WITHOUT_EXCHANGE + "Path.rename = lambda *names: (rename(*names), kill())\n"
    assert run_to_its_end(killed_between + REPLACE, final) == -signal.SIGKILL
    make_folder(final, "somebody's")
    assert remove_abandoned(tmp_path) == []
    assert sorted(map(text_in, tmp_path.iterdir())) == ["new", "old", "somebody's"]


def test_a_refused_second_rename_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = make_folder(tmp_path / "out", "old")
    monkeypatch.setattr(files, "_exchange", lambda *names: False)
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if target == final and ".partial" in path.name:
            raise PermissionError(errno.EPERM, "refused")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), atomic_output(final, overwrite=True) as temporary:
        make_folder(temporary, "new")
    assert text_in(final) == "old"
    assert contents(tmp_path) == ["out"]


def ways_elsewhere() -> list[str]:
    """How to run a process whose number means nothing here: truly, where the system lets us, or as told."""
    tried = (
        subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True) if on_linux() else None
    )
    return ["as told", *(["truly"] if tried is not None and tried.returncode == 0 else [])]


def on_linux() -> bool:
    return sys.platform.startswith("linux") and any(
        (Path(folder) / "unshare").exists() for folder in os.get_exec_path()
    )


@contextmanager
def writer_elsewhere(final: Path, way: str) -> Iterator[subprocess.Popen[str]]:
    """A process of another pid namespace that is writing `final` and completes it once it reads a line."""
    code = (
        "import sys\nfrom evsim import temporaries\nfrom evsim.files import atomic_output\n"
        "if sys.argv[2] == 'as told':\n"
        "    temporaries._process_space = lambda: '00c0ffee'\n"
        "    temporaries.os.getpid = lambda: 4_000_000\n"
        "with atomic_output(sys.argv[1]) as temporary:\n"
        "    temporary.mkdir(); (temporary / 'content.txt').write_text('theirs')\n"
        "    print('writing', flush=True); sys.stdin.readline()\n"
    )
    apart = ["unshare", "--pid", "--fork", "--kill-child"] if way == "truly" else []
    words = [*apart, sys.executable, "-c", code, str(final), way]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        try:
            yield writer
        finally:
            writer.kill()


@pytest.mark.parametrize("way", ways_elsewhere())
def test_what_a_process_of_another_container_writes_is_left_alone(tmp_path: Path, way: str) -> None:
    with writer_elsewhere(tmp_path / "theirs", way) as writer:
        with atomic_output(tmp_path / "ours.txt") as temporary:
            temporary.write_text("ours")
        assert remove_abandoned(tmp_path) == []
        writer.communicate("go on\n")
        assert writer.returncode == 0
    assert contents(tmp_path) == ["ours.txt", "theirs"]
    assert text_in(tmp_path / "theirs") == "theirs"


@pytest.mark.parametrize("way", ways_elsewhere())
def test_what_a_killed_process_of_another_container_left_goes_when_nobody_writes(
    tmp_path: Path, way: str
) -> None:
    with (
        writer_elsewhere(tmp_path / "theirs", way) as writer,
        atomic_output(tmp_path / "ours.txt") as temporary,
    ):
        temporary.write_text("ours")
        writer.kill()
        writer.wait()
        # We write here ourselves: nobody has the lock of the folder alone.
        assert remove_abandoned(tmp_path) == []
    until = time.monotonic() + 10
    while len(contents(tmp_path)) > 1 and time.monotonic() < until:
        remove_abandoned(tmp_path)
        time.sleep(0.01)  # what ran in the namespace may outlive its first process a little
    assert contents(tmp_path) == ["ours.txt"]


def old_name(final: str, host: str, pid: int) -> str:
    return f".{final}.{host}~{pid}~0123abcd.partial{Path(final).suffix}"


def test_temporaries_of_earlier_versions_go_if_they_are_surely_abandoned(tmp_path: Path) -> None:
    here = socket.gethostname()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [
        old_name("dead.h5", here, dead.pid),
        old_name("alive.h5", here, os.getppid()),
        old_name("away.h5", "another-host", dead.pid),
    ]
    for name in names:
        (tmp_path / name).write_text("half")
    with atomic_output(tmp_path / "out.txt") as temporary:
        temporary.write_text("done")
    assert contents(tmp_path) == sorted([*names[1:], "out.txt"])


def test_leftovers_go_whoever_left_them_but_only_of_their_output(tmp_path: Path) -> None:
    gone = [old_name("a", "another-host", 1), ".a.another-host~1~00c0ffeeu~0123abcd.partial"]
    kept = [old_name("a.h5", "another-host", 1), ".a.another-host.partial", "a.partial"]
    for name in (*gone, *kept):
        (tmp_path / name).write_text("half")
    removed = remove_leftovers(tmp_path / "a", tmp_path / "b", tmp_path / "no folder" / "c")
    assert sorted(path.name for path in removed) == sorted(gone)
    assert contents(tmp_path) == sorted(kept)


def test_leftovers_of_a_replacement_give_the_old_folder_back(tmp_path: Path) -> None:
    stem = ".out.another-host~1~00c0ffee~0123abcd"
    make_folder(tmp_path / f"{stem}.replaced", "old")
    make_folder(tmp_path / f"{stem}.partial", "new")
    remove_leftovers(tmp_path / "out")
    assert contents(tmp_path) == ["out"]
    assert text_in(tmp_path / "out") == "old"


def test_a_forked_child_does_not_keep_the_lock_of_what_is_done(tmp_path: Path) -> None:
    body = (
        "import fcntl\n"
        "with atomic_output(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('done'); child = os.fork()\n"
        "    if not child: time.sleep(60); os._exit(0)\n"
        "with temporaries._lock(Path(sys.argv[1]).parent, fcntl.LOCK_EX, 0) as alone: pass\n"
        "os.kill(child, signal.SIGKILL); sys.exit(0 if alone else 1)\n"
    )
    assert run_to_its_end(body, tmp_path / "out.txt") == 0


def test_a_started_program_does_not_keep_the_lock_of_a_killed_writer(tmp_path: Path) -> None:
    body = (
        "import subprocess\n"
        "with atomic_output(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    child = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "    Path(sys.argv[2]).write_text(str(child.pid)); kill()\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    assert run_to_its_end(body, out / "a.txt", tmp_path / "pid") == -signal.SIGKILL
    try:
        with temporaries._lock(out, fcntl.LOCK_EX, 0) as alone:
            assert alone
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_where_folders_cannot_be_locked_nothing_is_removed_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        patch.setattr(temporaries, "_process_space", lambda: "00c0ffee")
        patch.setattr(os, "getpid", lambda: 4_000_000)
        with atomic_output(tmp_path / "out.txt") as temporary:
            temporary.write_text("done")
            patch.undo()
            # From elsewhere, where locks work: that of the folder is free, and means nothing.
            assert remove_abandoned(tmp_path) == []
    assert contents(tmp_path) == ["out.txt"]


def test_a_folder_that_somebody_else_locks_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As "flock FOLDER evsim ..." does.
    monkeypatch.setattr(temporaries, "_PATIENCE_S", 0.05)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with atomic_output(tmp_path / "out.txt") as temporary:
            temporary.write_text("done")
    finally:
        os.close(descriptor)
    assert contents(tmp_path) == ["out.txt"]
