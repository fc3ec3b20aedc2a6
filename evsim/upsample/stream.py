"""Source frames in, more frames out: exact times, untouched source frames, nothing across a cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.media.frame import Frame
from evsim.upsample.code_values import FULL_SCALE
from evsim.upsample.config import UpsampleConfig
from evsim.upsample.interpolator import Interpolator, MovingPair, PreparedPair
from evsim.upsample.methods import make_interpolator

CutTest = Callable[[NDArray[Any]], bool]


def upsample(
    frames: Iterable[Frame],
    config: UpsampleConfig | None = None,
    *,
    interpolator: Interpolator | None = None,
) -> Iterator[Frame]:
    """The source frames with `factor` - 1 interpolated frames between each two; N become (N-1) factor + 1.

    frames: of one size and type, in strictly increasing time. config: None stands for the defaults.
    Source frames come out as the same image object with their source_index; `cut` is set where a cut was
    detected. Interpolated frames have source_index None and the times of `interpolated_times`. Before a cut
    the last frame of the old scene is held instead. Two frames are in memory at a time.
    interpolator: makes the frames in between in place of the configured method's; with `adaptive` its pairs
    must have `displacement_px` (`MovingPair`).
    Raises InputError (at the frame) for a change of size or type, an unknown type, or time that stands still.
    """
    settings = config or UpsampleConfig()
    if settings.method == "none" and interpolator is not None:
        raise InputError("upsample was given an interpolator with method 'none'; use method 'flow'")
    return _stream(frames, settings, interpolator)


def interpolated_times(t0_ns: int, t1_ns: int, factor: int) -> list[int]:
    """The factor - 1 times between two frames: t0 + k (t1 - t0) / factor to the nearest ns, halves later.

    Exact integer arithmetic. Raises InputError for an interval of fewer nanoseconds than steps.
    """
    if t1_ns - t0_ns < factor:
        raise InputError(
            f"the interval {t0_ns} to {t1_ns} ns has no room for {factor} steps; check the frame times' unit"
        )
    return [t0_ns + (2 * k * (t1_ns - t0_ns) + factor) // (2 * factor) for k in range(1, factor)]


def adaptive_factor(displacement_px: float, max_displacement_px: float, max_factor: int) -> int:
    """Steps that keep each one's motion within max_displacement_px: 1 at rest, max_factor at most."""
    steps = displacement_px / max_displacement_px
    return max_factor if steps >= max_factor else max(1, math.ceil(steps))


def _stream(
    frames: Iterable[Frame], config: UpsampleConfig, interpolator: Interpolator | None
) -> Iterator[Frame]:
    source = iter(frames)
    first = next(source, None)
    if first is None:
        return
    _require_image(first)
    cut_before = _cut_test(config)
    cut_before(first.image)
    chosen = interpolator or make_interpolator(config)
    yield first
    previous = first
    for frame in source:
        _require_successor(previous, frame)
        detected = cut_before(frame.image)
        current = frame._replace(cut=True) if detected else frame
        yield from _between(previous, current, config, chosen)
        yield current
        previous = current


def _cut_test(config: UpsampleConfig) -> CutTest:
    if not config.detect_cuts:
        return lambda image: False
    from evsim.upsample.cuts import CutDetector  # loads OpenCV, which importing this package must not

    return CutDetector(config.cut_threshold).cut_before


def _between(
    frame0: Frame, frame1: Frame, config: UpsampleConfig, interpolator: Interpolator | None
) -> Iterator[Frame]:
    if interpolator is None:
        return
    if frame1.cut or np.array_equal(frame0.image, frame1.image):
        # Nothing moves towards the new scene, or at all: with the source's own picture no event can arise.
        factor = 1 if config.adaptive else config.factor
        for t_ns in interpolated_times(frame0.t_ns, frame1.t_ns, factor):
            yield Frame(_finish(frame0.image, frame0.image.dtype, config), t_ns)
        return
    pair = interpolator.prepare(frame0.image, frame1.image)
    factor = _factor(pair, config)
    times = interpolated_times(frame0.t_ns, frame1.t_ns, factor)
    if not times:
        return
    pictures = iter(pair.pictures([k / factor for k in range(1, factor)]))
    for k, t_ns in enumerate(times):
        yield Frame(
            _finish(_require_picture(next(pictures, None), frame0, k, factor), frame0.image.dtype, config),
            t_ns,
        )


def _require_picture(
    picture: NDArray[np.float32] | None, frame: Frame, k: int, factor: int
) -> NDArray[np.float32]:
    """What an interpolator gave as picture k after `frame`. Raises InputError unless it fits."""
    if picture is None:
        raise InputError(f"the interpolator gave {k} pictures after {frame.t_ns} ns, expected {factor - 1}")
    if picture.shape != frame.image.shape or picture.dtype != np.float32:
        raise InputError(
            f"the interpolator gave a picture of {picture.dtype} {picture.shape} after {frame.t_ns} ns, "
            f"expected float32 {frame.image.shape}"
        )
    return picture


def _factor(pair: PreparedPair, config: UpsampleConfig) -> int:
    if not config.adaptive:
        return config.factor
    if not isinstance(pair, MovingPair):
        raise InputError(
            f"{type(pair).__name__} has no displacement_px, which an adaptive factor needs; "
            "set adaptive=False, or give the interpolator's pairs that method"
        )
    return adaptive_factor(pair.displacement_px(), config.max_displacement_px, config.max_factor)


def _finish(image: NDArray[Any], source_type: np.dtype[Any], config: UpsampleConfig) -> NDArray[Any]:
    """An interpolated or held image, in the source's units, as the type that is asked for."""
    if config.interpolated_dtype == "float32":
        return image.astype(np.float32) / np.float32(FULL_SCALE[source_type])
    if image.dtype == source_type:
        return image
    return np.clip(np.rint(image), 0, np.iinfo(source_type).max).astype(source_type)


def _require_image(frame: Frame) -> None:
    image = frame.image
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise InputError(
            f"frame at {frame.t_ns} ns is {image.dtype}, expected uint8, uint16 or float32: convert it first"
        )
    if image.size == 0 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(
            f"frame at {frame.t_ns} ns has shape {image.shape}, expected (H, W) or (H, W, 3), not empty"
        )
    if image.dtype == np.float32 and not np.isfinite(image).all():
        count = image.size - int(np.isfinite(image).sum())
        raise InputError(
            f"frame at {frame.t_ns} ns has {count} values that are NaN or infinite; mend them first"
        )


def _require_successor(previous: Frame, frame: Frame) -> None:
    _require_image(frame)
    if frame.image.shape != previous.image.shape or frame.image.dtype != previous.image.dtype:
        raise InputError(
            f"frame at {frame.t_ns} ns is {frame.image.dtype} {frame.image.shape}, the one before "
            f"{previous.image.dtype} {previous.image.shape}; frames of a clip must agree: resize or convert"
        )
    if frame.t_ns <= previous.t_ns:
        raise InputError(
            f"frame at {frame.t_ns} ns follows one at {previous.t_ns} ns; times must increase strictly: "
            "sort the frames or mend the time stamps"
        )
