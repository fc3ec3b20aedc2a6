"""Lookup tables from code values to log intensity and low-pass weight, and the `Light` of one frame."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.sensor.frames import UINT16_PER_DN, dn_scale
from evsim.sensor.pixels.v2e.config import V2eFields
from evsim.sensor.pixels.v2e.pass_records import FLOAT_EXACT, FLOAT_FAST, UINT8, UINT16, Light
from evsim.sensor.vector import byte_planes

KNEE = 20.0
KEPT_INTERVALS = 8
CODE_KINDS = {np.dtype(np.uint8): UINT8, np.dtype(np.uint16): UINT16}


class AlphaTables(NamedTuple):
    """Weights of the low-pass for every code; see `Light`."""

    alpha: NDArray[np.float64]
    pairs: NDArray[np.uint64]
    bytes: NDArray[np.uint8]


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def lin_log_table(dn: NDArray[np.float64]) -> NDArray[np.float32]:
    """v2e's map of intensity: linear up to 20 DN, natural logarithm above, rounded to 1e-8."""
    values = np.where(dn <= KNEE, dn * (math.log(KNEE) / KNEE), np.log(np.maximum(dn, KNEE)))
    return (np.rint(values * 1e8) / 1e8).astype(np.float32)


class LightReader:
    """Makes the `Light` of frames; keeps the tables of the last few interval lengths."""

    def __init__(self, config: V2eFields) -> None:
        self._config = config
        closed = config.solves_low_pass
        self._exponential = closed or config.bypasses_low_pass
        self._largest = math.inf if closed else 1.0
        self._exact = config.precision == "float64"
        # The polynomial of float frames is good for weights of short intervals only.
        self._float_kind = FLOAT_EXACT if closed or self._exact else FLOAT_FAST
        self._log: dict[int, NDArray[np.float32]] = {}
        self._alpha: dict[tuple[int, int], AlphaTables] = {}
        self._empty = {kind: _read_only(np.empty((0, 0), kind)) for kind in (np.uint8, np.uint16, np.float32)}
        no_bytes = np.empty(0, np.uint8)
        self._no_alpha = AlphaTables(np.empty(0, np.float64), np.empty(0, np.uint64), no_bytes)
        self._no_bytes = no_bytes
        self._no_log = np.empty(0, np.float32)
        self._log_bytes = byte_planes(self._log_table(UINT8))

    def read(self, frame: NDArray[Any], interval_ns: int) -> Light:
        """`frame` (checked) with the tables for an interval; 0 where no filter step follows."""
        kind = CODE_KINDS.get(frame.dtype, self._float_kind)
        gain = interval_ns * 1e-9 * 2 * math.pi * self._config.cutoff_hz
        log, (alpha, pairs, alpha_bytes) = self._no_log, self._no_alpha
        if kind in (UINT8, UINT16):
            log = self._log_table(kind)
            if gain > 0:
                alpha, pairs, alpha_bytes = self._alpha_tables(kind, interval_ns, gain)
        return Light(
            kind,
            frame if kind == UINT8 else self._empty[np.uint8],
            frame if kind == UINT16 else self._empty[np.uint16],
            frame if kind in (FLOAT_FAST, FLOAT_EXACT) else self._empty[np.float32],
            log,
            alpha,
            pairs,
            self._log_bytes if kind == UINT8 else self._no_bytes,
            alpha_bytes,
            dn_scale(frame, self._config.float_full_scale),
            gain,
            self._largest,
            self._exponential,
        )

    def _log_table(self, kind: int) -> NDArray[np.float32]:
        if kind not in self._log:
            self._log[kind] = lin_log_table(_code_dn(kind))
        return self._log[kind]

    def _alpha_tables(self, kind: int, interval_ns: int, gain: float) -> AlphaTables:
        found = self._alpha.get((kind, interval_ns))
        if found is None:
            e = np.minimum((_code_dn(kind) + 20.0) / 275.0 * gain, self._largest)
            alpha = 1.0 - np.exp(-e) if self._exponential else e
            pairs, alpha_bytes = self._no_alpha.pairs, self._no_bytes
            if not self._exact:
                both = np.stack([self._log_table(kind), alpha.astype(np.float32)], axis=1)
                high, low = both[:, 1].view(np.uint32), both[:, 0].view(np.uint32)
                pairs = (high.astype(np.uint64) << np.uint64(32)) | low
                if kind == UINT8:
                    alpha_bytes = byte_planes(np.ascontiguousarray(both[:, 1]))
            if len(self._alpha) >= KEPT_INTERVALS:
                del self._alpha[next(iter(self._alpha))]
            found = self._alpha[kind, interval_ns] = AlphaTables(alpha, pairs, alpha_bytes)
        return found


def _code_dn(kind: int) -> NDArray[np.float64]:
    codes = np.arange(256 if kind == UINT8 else 65536, dtype=np.float64)
    return codes if kind == UINT8 else codes / UINT16_PER_DN
