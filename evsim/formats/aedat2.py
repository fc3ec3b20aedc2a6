"""AEDAT 2, reading: jAER's big-endian pairs of address and time, origin at the lower right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import SHOT_NOISE, SIGNAL
from evsim.formats.catalogue import Format, register
from evsim.formats.evt2 import RESTARTS
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.words import Decoded, State, WordRecording, header_lines, unwrapped

MARK = b"#!AER-DAT2"
CHIPS = {"davis346": (346, 260), "davis240": (240, 180), "dvs640": (640, 480)}
SIZES = tuple(CHIPS.values())
PERIOD_US = 1 << 32
NO_EVENTS = "records that are no events (image samples, special events) were passed over"


def sniff(path: Path, head: bytes) -> bool:
    """True for a file that begins with the line of AEDAT 2."""
    return head.startswith(MARK)


class Aedat2Recording(WordRecording):
    """An AEDAT 2 file of a DAVIS346, DAVIS240 or DVS640, which differ in how an address is made.

    Both axes are mirrored in the file and are not here. In files of v2e, bit 10 marks shot noise and becomes
    a label; elsewhere it marks special events, which are passed over and counted, like image samples. Raises
    InputError when the header names no chip and the size is not told, or for another size.
    """

    mirrored: ClassVar[str] = "both axes"

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        lines, start = header_lines(path, b"#")
        text = "\n".join(lines)
        named = re.sub(r"[^a-z0-9]", "", text.lower())
        chip = next((found for name, found in CHIPS.items() if name in named), None)
        told = sensor_size(path, chip, order="wh", image_shape=None, given=size)
        if told not in SIZES:
            known = ", ".join(f"{width}x{height}" for width, height in SIZES)
            raise InputError(
                f"{path}: how a sensor of {told[0]}x{told[1]} makes addresses is not known; known: {known}"
            )
        # The mark of shot noise would fall into x on a DVS640.
        self._v2e = "v2e" in text and told != CHIPS["dvs640"]
        super().__init__(
            path,
            "aedat2",
            told,
            start=start,
            word=">u8",
            initial=(-1,),
            has_labels=self._v2e,
            attributes={"header": lines},
        )

    def _decode(self, words: NDArray[Any], state: State) -> Decoded:
        address = (words >> 32).astype(np.uint32)
        t, turns = unwrapped(words & 0xFFFFFFFF, state[0], PERIOD_US)
        if (self.width, self.height) == CHIPS["dvs640"]:
            x, y, p = (address >> 1) & 0x3FF, (address >> 11) & 0x1FF, address & 1
            keep, noise = np.ones(len(words), bool), np.zeros(len(words), bool)
        else:
            x, y, p = (address >> 12) & 0x3FF, (address >> 22) & 0x1FF, (address >> 11) & 1
            noise = (address >> 10) & 1 == 1
            keep = (address >> 31 == 0) & (self._v2e | ~noise)
        labels = np.where(noise, SHOT_NOISE, SIGNAL).astype(np.uint8)
        return Decoded(
            t[keep],
            (self.width - 1 - x.astype(np.int64))[keep],
            (self.height - 1 - y.astype(np.int64))[keep],
            p[keep],
            (int(t[-1]) if len(t) else state[0],),
            {NO_EVENTS: int(np.count_nonzero(~keep)), RESTARTS: turns},
            labels[keep] if self._v2e else None,
        )


register(
    Format(
        name="aedat2",
        summary="AEDAT 2 of jAER and v2e (read only)",
        suffixes=(".aedat",),
        sniff=sniff,
        open=Aedat2Recording,
        labels=True,
    )
)
