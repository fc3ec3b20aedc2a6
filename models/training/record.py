"""What a run writes as it goes: metrics.csv always, TensorBoard where installed, sample pictures."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError
from evsim.files import atomic_output

HEADER = ("step", "epoch", "phase", "metric", "value")
TRAIN, VALIDATION = "train", "validation"


class Recorder:
    """Writes the figures and pictures of one run; only one process of the run has one.

    A row of metrics.csv is one metric of one step, written whole by a single append; values have as many
    digits as give back the same number. step: of the state that the run begins from, validated: the last
    validated step in it; later rows of an earlier attempt are dropped, because they come again.
    """

    def __init__(self, folder: Path, *, step: int = 0, validated: int = 0) -> None:
        self.folder = folder
        self.path = folder / "metrics.csv"
        rows = _kept_rows(self.path, step, validated) if self.path.exists() else []
        with atomic_output(self.path, overwrite=True) as temporary:
            temporary.write_text(_as_csv([HEADER, *rows]), encoding="utf-8")
        self._board = _open_board(folder / "tensorboard", step)

    def write(self, step: int, epoch: int, phase: str, metrics: Mapping[str, float]) -> None:
        """One row a metric."""
        text = _as_csv([(step, epoch, phase, name, repr(value)) for name, value in metrics.items()])
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(f"{phase}/{name}", value, step)

    def show(self, step: int, pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Write pictures/step_<step>_<k>.png of images (H, W) or (H, W, 3) RGB."""
        for k, picture in enumerate(pictures):
            coded = cv2.imencode(".png", picture if picture.ndim == 2 else picture[..., ::-1])[1]
            path = self.folder / "pictures" / f"step_{step:08d}_{k}.png"
            with atomic_output(path, overwrite=True) as temporary:
                temporary.write_bytes(coded.tobytes())
            if self._board is not None:
                layout = "HW" if picture.ndim == 2 else "HWC"
                self._board.add_image(f"sample {k}", picture, step, dataformats=layout)

    def close(self) -> None:
        """Flush what TensorBoard's writer holds back."""
        if self._board is not None:
            self._board.close()


def _open_board(folder: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def _kept_rows(path: Path, step: int, validated: int) -> list[list[str]]:
    """Rows of a run up to a step; a row that a crash has torn is none."""
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    if not rows or tuple(rows[0]) != HEADER:
        raise FormatError(path, f"is not the record of a training run: expected columns {', '.join(HEADER)}")
    last = {TRAIN: step, VALIDATION: validated}
    return [row for row in rows[1:] if len(row) == len(HEADER) and int(row[0]) <= last.get(row[2], 0)]


def _as_csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
