"""A finished run to Sim2Real's training tree: one event frame for each interval between dense frames.

    OUT/<split>_x8interpolated/EVS/<clip>/<frame>.npy          (H, W), of the interval that ends at <frame>
    OUT/RGB_dense/<split>_x8interpolated/<clip>/<frame>.png    where the run kept all frames
    OUT/evsim.json                                             the run, its drawn parameters, counts

Every interval has its file, empty ones too: readers pair the two folders by position.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.configuration import Tree
from evsim.errors import FormatError, InputError, RunError
from evsim.events import Events
from evsim.files import atomic_output
from evsim.formats import open_events
from evsim.formats.native import NativeRecording
from evsim.pipelines.runs.job import JobRecord
from evsim.pipelines.runs.manifest import latest_records
from evsim.pipelines.runs.run_folder import RunFolder
from evsim.represent import event_frame, polarity_frames
from evsim.upsample import interpolated_times

FrameKind = Literal["last", "count", "sum"]
INDEX = "evsim.json"
INTERVALS_AT_ONCE = 8


@dataclass(frozen=True)
class GoproSummary:
    """What was packed. intervals: event frames; empty: of them without an event; images: PNG files."""

    clips: int
    intervals: int
    empty: int
    images: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where one clip goes."""

    events: Path
    images: Path


def pack_gopro(
    run: Path,
    output: Path,
    *,
    frames: FrameKind = "last",
    partial: bool = False,
    overwrite: bool = False,
    report: Callable[[int, int | None, str], None] | None = None,
) -> GoproSummary:
    """Write the training tree of a run's clips; one source interval is in memory at a time.

    frames: "last" int8, polarity -1 or 1 of each pixel's last event, 0 for none, as published; "count" int16,
    events; "sum" int16, ON minus OFF. partial: take what is finished of an unfinished run.
    Intervals end at the dense frames: stored ones where the run kept all, else source frames and a fixed
    upsampling factor. Raises InputError for a run that does not tell them, or is unfinished.
    """
    folder = RunFolder(run)
    tree = folder.read()
    if tree is None:
        raise InputError(f"{run} holds no run.json; expected the folder of evsim simulate gopro")
    records, missing = _finished(folder, tree, partial)
    _make_room(output, overwrite)
    stored = tree["configuration"]["frames"]
    packed: Tree = {}
    index = {"run": {**tree, "invocations": []}, "frames": frames, "complete": False, "clips": packed}
    _write_index(output, index)
    for number, record in enumerate(records, start=1):
        with _open(run / record.output.name) as recording:
            packed[record.name] = {
                **_pack_clip(recording, _place(output, record, recording), frames, stored),
                "parameters": record.facts["parameters"],
            }
        if report:
            report(number, len(records), record.name)
    _write_index(output, {**index, "complete": not missing})
    totals = {name: sum(clip[name] for clip in packed.values()) for name in ("intervals", "empty", "images")}
    return GoproSummary(len(packed), **totals, notes=tuple(_notes(missing, stored, run)))


def dense_times(recording: NativeRecording, stored: str) -> NDArray[np.int64]:
    """int64 nanoseconds of the frames between which the sensor was simulated.

    stored: which frames the file holds, "all" or "source". Raises InputError where they do not tell.
    """
    times = np.rint(recording.image_times() * 1000).astype(np.int64)
    upsample = _configuration(recording)["upsample"]
    if len(times) < 2:
        raise InputError(
            f"{recording.path} holds {len(times)} frames, so that nothing tells where intervals end; "
            "simulate with --frames source or all"
        )
    if stored == "all" or upsample["method"] == "none":
        return times
    if upsample["adaptive"]:
        raise InputError(
            f"{recording.path} was upsampled by a factor chosen from the motion, and only its source frames "
            "were stored: the intervals are not known; simulate with --frames all, or with a fixed --factor"
        )
    dense = [int(times[0])]
    for t0, t1 in itertools.pairwise(times.tolist()):
        dense += [*interpolated_times(t0, t1, upsample["factor"]), t1]
    return np.array(dense, np.int64)


def interval_frames(events: Events, edges_us: NDArray[np.int64], kind: FrameKind) -> NDArray[Any]:
    """(T, H, W) frames of the T intervals edges[i] < t <= edges[i + 1]; see `pack_gopro` for the kinds.

    Raises InputError where a pixel has more events in an interval than int16 holds.
    """
    if kind == "last":
        return polarity_frames(events, edges_us)
    made = np.zeros((len(edges_us) - 1, events.height, events.width), np.int16)
    limit = np.iinfo(np.int16).max
    for frame, (t0, t1) in zip(made, itertools.pairwise(edges_us.tolist())):
        counts = event_frame(events.between(t0 + 1, t1 + 1), kind="counts")
        if counts.sum(axis=0).max(initial=0) > limit:
            raise InputError(
                f"a pixel has more than {limit} events between {t0} and {t1} us; use frames=last"
            )
        frame[:] = counts[0] + counts[1] if kind == "count" else counts[0] - counts[1]
    return made


def _finished(folder: RunFolder, tree: Tree, partial: bool) -> tuple[list[JobRecord], list[str]]:
    """The records of finished clips in the run's order, and the clips that are not finished."""
    records = latest_records(folder.path)
    done = [clip for clip in tree["clips"] if clip in records and records[clip].status == "done"]
    missing = [clip for clip in tree["clips"] if clip not in set(done)]
    if not done or (missing and not partial):
        hint = "" if not done else ", or pass --partial to take what is there"
        raise InputError(
            f"{folder.path}: {len(missing)} of {len(tree['clips'])} clips are not finished, such as "
            f"{missing[0]}; run evsim simulate --config {folder.description} --resume{hint}"
        )
    return [records[clip] for clip in done], missing


def _make_room(output: Path, overwrite: bool) -> None:
    if output.is_dir() and any(output.iterdir()):
        if not overwrite:
            raise InputError(f"{output} exists; choose another output or pass --overwrite")
        if not (output / INDEX).is_file():
            raise InputError(f"{output} holds no {INDEX}: it was not packed by evsim; choose another output")
        shutil.rmtree(output)
    elif output.exists() and not output.is_dir():
        raise InputError(f"{output} is no folder; choose another output")


def _open(path: Path) -> NativeRecording:
    recording = open_events(path)
    if not isinstance(recording, NativeRecording):
        recording.close()
        raise FormatError(path, f"is {recording.format}, expected the HDF5 file of a run")
    return recording


def _configuration(recording: NativeRecording) -> Tree:
    text = recording.attributes.get("config")
    if not text:
        raise FormatError(recording.path, "has no attribute config: it was not simulated by a run")
    return json.loads(text)


def _place(output: Path, record: JobRecord, recording: NativeRecording) -> _Place:
    """Sim2Real's folders: the first part of a clip's name is its split, the rest names the sequence."""
    split, _, rest = record.name.partition("/")
    if not rest:
        split, rest = "train", record.name
    upsample = _configuration(recording)["upsample"]
    factor = "auto" if upsample["adaptive"] else 1 if upsample["method"] == "none" else upsample["factor"]
    # Readers list the sequences one level deep.
    group, sequence = f"{split}_x{factor}interpolated", rest.replace("/", "-")
    return _Place(output / group / "EVS" / sequence, output / "RGB_dense" / group / sequence)


def _pack_clip(recording: NativeRecording, place: _Place, kind: FrameKind, stored: str) -> Tree:
    edges = dense_times(recording, stored) // 1000
    empty = images = 0
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(atomic_output(place.events))
        folder.mkdir()
        for number, (frame, events) in enumerate(_stream(recording, edges, kind), start=1):
            np.save(folder / f"{_stem(number)}.npy", frame)
            empty += not events
        if stored == "all":
            pictures = stack.enter_context(atomic_output(place.images))
            pictures.mkdir()
            for images, image in enumerate(recording.images(), start=1):
                _write_png(pictures / f"{_stem(images - 1)}.png", image.image)
    return {"intervals": len(edges) - 1, "empty": empty, "images": images}


def _stream(
    recording: NativeRecording, edges: NDArray[np.int64], kind: FrameKind
) -> Iterator[tuple[NDArray[Any], int]]:
    """The frame and the number of events of every interval."""
    for start in range(0, len(edges) - 1, INTERVALS_AT_ONCE):
        part = edges[start : start + INTERVALS_AT_ONCE + 1]
        events = recording.between(int(part[0]) + 1, int(part[-1]) + 1)
        counts = np.diff(np.searchsorted(events.t, part, "right"))
        yield from zip(interval_frames(events, part, kind), counts.tolist())


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".png", stored)
    if not encoded:
        raise RunError(f"{path}: OpenCV cannot encode {image.dtype} {image.shape} as PNG")
    # Python writes the bytes: OpenCV reports a full disk as nothing but failure.
    path.write_bytes(data.tobytes())


def _stem(number: int) -> str:
    return f"{number:06d}"


def _write_index(output: Path, index: Tree) -> None:
    with atomic_output(output / INDEX, overwrite=True) as temporary:
        temporary.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _notes(missing: list[str], stored: str, run: Path) -> Iterator[str]:
    if missing:
        yield f"{len(missing)} clips are not finished and were left out: {', '.join(missing)}"
    if stored != "all":
        yield f"no RGB_dense was written: {run} keeps {stored} frames; simulate with --frames all for it"
