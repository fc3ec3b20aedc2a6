"""Reads the files or folders named on stdin, one JSON line each, and says what came of it on stdout.

Run as a child process: a reader that hangs or takes the interpreter down then costs one line, not the suite.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from pathlib import Path

from evsim.errors import EvsimError
from evsim.formats import check, open_events, sniff


def read(path: Path, format: str | None, size: tuple[int, int] | None, unit: str | None) -> str:
    """'read', 'refused', or the name of an exception that should not have come."""
    try:
        with contextlib.suppress(EvsimError):
            sniff(path)
        check(path, size=size, unit=unit, format=format)
        with open_events(path, size=size, unit=unit, format=format) as recording:
            recording.events()
            recording.between(1000, 5000)
            for _ in recording.images():
                pass
    except EvsimError:
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def answer(line: str) -> None:
    """One line for the parent, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    warnings.simplefilter("ignore")
    answer("ready")
    for line in sys.stdin:
        job = json.loads(line)
        size = tuple(job["size"]) if job["size"] else None
        said = read(Path(job["path"]), job["format"], size, job["unit"])
        answer(json.dumps({"said": said}))


if __name__ == "__main__":
    main()
