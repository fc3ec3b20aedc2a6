"""Event files: one module for each on-disk format, found here by itself; `open_events` and `save_events`.

A new format is one new module in this folder that calls `register`; nothing else changes.
"""

import importlib as _importlib
import pkgutil as _pkgutil

from evsim.formats.catalogue import (
    FORMATS,
    Format,
    create_events,
    format_for,
    open_events,
    register,
    save_events,
    sniff,
)
from evsim.formats.storage.recording import Defect, IndexedRecording, RecordedImage, Recording
from evsim.formats.storage.writer import EventWriter

for _module in sorted(_pkgutil.iter_modules(__path__), key=lambda module: module.name):
    _importlib.import_module(f"{__name__}.{_module.name}")

from evsim.formats.checking import check  # noqa: E402
from evsim.formats.conversion import convert  # noqa: E402
from evsim.formats.native_writer import NativeWriter  # noqa: E402
from evsim.formats.summary import describe  # noqa: E402

__all__ = [
    "FORMATS",
    "Defect",
    "EventWriter",
    "Format",
    "IndexedRecording",
    "NativeWriter",
    "RecordedImage",
    "Recording",
    "check",
    "convert",
    "create_events",
    "describe",
    "format_for",
    "open_events",
    "register",
    "save_events",
    "sniff",
]
