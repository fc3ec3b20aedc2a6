"""The errors evsim raises on purpose. A message names the thing, what was found, what was expected, the mend.

EvsimError
├── InputError       (ValueError)    the user's data or option
│   └── ConfigError                  a configuration field or value
├── FormatError      (ValueError)    a file whose content is not what its format says
├── CheckpointError  (ValueError)    a weight file that does not fit the network
├── BackendError     (RuntimeError)  a forced backend that cannot run here
└── RunError         (RuntimeError)  work that could not be finished: disk full, failed job, lock held
"""

from __future__ import annotations

import os
from collections.abc import Sequence


class EvsimError(Exception):
    """Base of everything evsim raises on purpose."""


class InputError(EvsimError, ValueError):
    """The user's data or option cannot be used."""


class ConfigError(InputError):
    """A configuration field is unknown or its value has the wrong type or range."""


class FormatError(EvsimError, ValueError):
    """A file does not hold what its format promises.

    path: the file. place: where inside it (a dataset, a line, a byte offset), or empty.
    """

    def __init__(self, path: str | os.PathLike[str], message: str, *, place: str = "") -> None:
        self.path = os.fspath(path)
        self.place = place
        super().__init__(f"{self.path}{f' ({place})' if place else ''}: {message}")


class CheckpointError(EvsimError, ValueError):
    """A weight file does not fit the network it was loaded into.

    details: one line for each kind of problem that names every key; the message names the first few.
    """

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        self.details = tuple(details)
        super().__init__(message)


class BackendError(EvsimError, RuntimeError):
    """A backend was asked for by name and cannot run here; the message says why."""


class RunError(EvsimError, RuntimeError):
    """Work was started correctly and could not be finished."""
