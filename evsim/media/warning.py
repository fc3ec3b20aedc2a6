"""The one category under which this room warns."""

from __future__ import annotations


class MediaWarning(UserWarning):
    """Footage was read or written, and something about it differs from what its container promises."""
