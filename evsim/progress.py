"""What long work tells whoever waits for it: how far it is, and sentences."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[int, int | None, str], None]
"""Called with (units done, units in all or None where that is not known, a few words)."""
Say = Callable[[str], None]
"""Told one sentence at a time."""
