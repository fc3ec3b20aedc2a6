"""What a run would take, before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from evsim.pipelines.runs.description import RunDescription
from evsim.pipelines.runs.executors import Executor, Serial
from evsim.pipelines.runs.run import RunOptions, list_work


def plan_run(
    description: RunDescription,
    path: Path,
    options: RunOptions | None = None,
    *,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Names and values of what `execute_run` would do; writes nothing.

    The estimates are the verb's, measured by the executor itself where it measures anything.
    """
    listed = list_work(description, path, options or RunOptions())
    estimate = description.estimate(listed.todo, executor or Serial())
    return {
        "output": str(path),
        f"{description.unit}s": len(listed.todo) + len(listed.skipped),
        "to_do": len(listed.todo),
        "skipped": len(listed.skipped),
        "redone": listed.reasons,
        **estimate,
        "free_megabytes": round(_free_bytes(path) / 1e6, 1),
        "notes": list(listed.notes),
    }


def _free_bytes(path: Path) -> int:
    existing = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free
