"""Options of the compiled loops: no interpreter lock, kept on disk, and no reference counts.

LOOP is for functions that are called from Python. INLINE is for the loops they consist of, SPREAD for the
small functions that only call such loops.
"""

from __future__ import annotations

from typing import Any

# A view of a row costs two atomic operations when numba counts references: for short rows more than the
# arithmetic. Functions without counts may not allocate, nor return arrays.
LOOP: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "_nrt": False}
INLINE: dict[str, Any] = {**LOOP, "forceinline": True}
SPREAD: dict[str, Any] = {**LOOP, "inline": "always"}
