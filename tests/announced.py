"""A package of somebody else's, installed in a folder: what it announces is found as in site-packages.

Processes that are started afresh find it too, as they take over `sys.path`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def installed(folder: Path, module: str, source: str, **points: dict[str, str]) -> Iterator[Path]:
    """A distribution of one module in `folder`; points: group (dots as underlines) -> name -> object."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    described = folder / f"{module}-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    sections = (
        f"[{group.replace('_', '.', 1)}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
        for group, named in points.items()
    )
    (described / "entry_points.txt").write_text("".join(sections))
    sys.path.insert(0, str(folder))
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(module, None)
