"""The demo: a public-domain photograph under a known camera path, through the whole chain, to report.html.

Every step is one that a user can repeat: the report lists the exact command of each.
"""

from __future__ import annotations

import itertools
import multiprocessing
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evsim import configuration, isp, view
from evsim.chain import ClipSimulation
from evsim.errors import InputError
from evsim.events import SIGNAL, Events
from evsim.files import atomic_output
from evsim.formats import open_events
from evsim.media import CameraMotion, FrameSource, Selection, StillImageSource, luma, open_source, open_writer
from evsim.metrics.alignment import aligned_images, aligned_scores
from evsim.models.prediction.parts import make_predictor
from evsim.models.variational.solver import Weights, solve
from evsim.pipelines.packing.rled import pack_rled
from evsim.pipelines.reconstruct import reconstruct_to_file, resolve
from evsim.pipelines.reports.simulation_page import (
    Animation,
    Command,
    Comparison,
    ReportContent,
    Stage,
    write_report,
)
from evsim.pipelines.runs.executors import interrupts_held_back
from evsim.pipelines.simulate import ClipJob, ClipResult, compose, simulate_clip
from evsim.progress import Say
from evsim.represent import integrate, to_display, voxel_grid
from evsim.represent.levels import Thresholds, event_levels
from evsim.sensor.config import ThresholdConfig
from evsim.upsample import UpsampleConfig, upsample
from evsim.view.plots import OFF_COLOUR, ON_COLOUR

WIDTH, HEIGHT, FPS, DURATION_S = 240, 180, 30.0, 1.0
FACTOR, LOW_LIGHT_FACTOR, BINS, WINDOW_US = 8, 4, 5, 10_000
NETWORK = "variational"
METRICS = ("mse@log-affine", "ssim:evreal@log-affine")
MOTION = CameraMotion(path="circle", amplitude_px=24.0, rotation_deg=6.0, zoom=1.15)
OVERRIDES = (f"isp.low_light_factor={LOW_LIGHT_FACTOR}",)


@dataclass(frozen=True)
class _Timed:
    """A value and the seconds that it took to make."""

    value: Any
    seconds: float


@dataclass(frozen=True)
class _Light:
    """What the sensor saw around a few source frames, for the report."""

    dense: list[NDArray[Any]]
    light: list[NDArray[Any]]


def photograph() -> Path:
    """The public-domain portrait of Grace Hopper (US Navy) that matplotlib ships."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    if not path.is_file():
        raise InputError(f"{path} is missing: this matplotlib was installed without its sample data")
    return path


def run_demo(
    output: Path, *, seed: int = 0, overwrite: bool = False, say: Say = lambda message: None
) -> dict[str, Any]:
    """Run the chain into the folder `output`; returns names and values to print.

    say: told in a few words what happens next. Raises InputError if `output` exists without `overwrite`.
    """
    started = time.perf_counter()
    with atomic_output(output, overwrite=overwrite) as folder:
        folder.mkdir()
        content = _run_steps(folder, output, seed, say)
        write_report(folder / "report.html", content)
    return {
        "seconds": round(time.perf_counter() - started, 1),
        **content.facts,
        "report": str((output / "report.html").resolve()),
    }


def _list_by_final_names(packed: Path, folder: Path, final: Path) -> None:
    """Let the lists of a packed folder name what they will find once `folder` is called `final`."""
    for listed in packed.glob("*.txt"):
        text = listed.read_text(encoding="utf-8")
        listed.write_text(text.replace(str(folder.resolve()), str(final.resolve())), encoding="utf-8")


def _run_steps(folder: Path, final: Path, seed: int, say: Say) -> ReportContent:
    say("rendering the clip: a photograph under a moving camera")
    clip = _timed(_render_clip, folder)
    say("compiling the kernels (kept for the next run)")
    compiling = _timed(_compile_kernels, folder / "clip", seed)
    job = compose(preset="sim2real", overrides=OVERRIDES, job={"seed": seed, "upsample": {"factor": FACTOR}})
    say(f"simulating: x{FACTOR} frames, RAW light at a {LOW_LIGHT_FACTOR}th of the light, events")
    simulated: ClipResult = simulate_clip(open_source(folder / "clip"), folder / "events.h5", job)
    say("packing, voxelising, reconstructing")
    packed = _timed(pack_rled, folder / "events.h5", folder / "packed", memmap=True)
    _list_by_final_names(folder / "packed", folder, final)
    with open_events(folder / "events.h5") as recording:
        events = recording.events()
        image_times = [image.t_us for image in recording.images()]
        figure = view.rate_plot(recording)
    voxels = _timed(_voxel_batch, events, image_times)
    rebuilt = _timed(_reconstruct, folder / "events.h5", folder / "reconstruction.npy")
    truth = np.stack([luma(frame.image) for frame in open_source(folder / "clip")])
    log_frames = np.load(folder / "reconstruction.npy")
    comparison = _compare(log_frames, _integrate(events, image_times, job), truth)
    say("rendering the report")
    stages = _stages(folder, job, clip, simulated, packed, voxels, rebuilt, events)
    return ReportContent(
        title="From a clip to events",
        summary=(
            f"A public-domain photograph, {WIDTH}x{HEIGHT} pixels under a known camera path for "
            f"{DURATION_S:g} second, goes through the whole chain: optical flow multiplies its frames, the "
            "inverse camera pipeline turns them into the RAW light of a dark scene, a simulated low-light "
            "sensor answers with events, and the events are packed, voxelised and turned back into video."
        ),
        stages=stages,
        facts={
            "events": simulated.events,
            "event rate": f"{simulated.events / simulated.duration_s / 1e6:.2f} Mevent/s",
            "ON share": f"{simulated.on_events / max(simulated.events, 1):.1%}",
            "frames": f"{simulated.source_frames} -> {simulated.frames}",
            "compiling": f"{compiling.seconds:.1f} s",
            **{name: comparison.scores[-1][name] for name in METRICS},
        },
        comparison=comparison,
        noise_shares=simulated.labels,
        figures={"Event rate": figure},
        parameters={
            "isp (drawn once for the clip)": isp.draw_parameters(job.isp, job.seed, job.clip).to_dict(),
            "sensor": configuration.to_tree(job.sensor),
            "upsampling": configuration.to_tree(job.upsample),
        },
        commands=_commands(final, job),
    )


def _timed(function: Callable[..., Any], *arguments: Any, **named: Any) -> _Timed:
    started = time.perf_counter()
    value = function(*arguments, **named)
    return _Timed(value, time.perf_counter() - started)


def _render_clip(folder: Path) -> int:
    """Write the clip as a folder of PNG with timestamps.txt, and the photograph beside it."""
    shutil.copyfile(photograph(), folder / "scene.jpg")
    source = StillImageSource(
        folder / "scene.jpg", MOTION, duration_s=DURATION_S, fps=FPS, size=(WIDTH, HEIGHT)
    )
    with open_writer(folder / "clip", fps=FPS, size=(WIDTH, HEIGHT)) as writer:
        for frame in source:
            writer.write(frame.image, frame.t_ns)
    return writer.frames_written


def _compile_kernels(clip: Path, seed: int) -> None:
    """Run every compiled part once on a few frames, so that the stages are timed without the compiler.

    A second process compiles what does not belong to the sensor; what it keeps on disk is then only read.
    """
    other = multiprocessing.get_context("spawn").Process(target=_compile_rest, args=(clip,), daemon=True)
    with interrupts_held_back():
        other.start()
    try:
        job = compose(preset="sim2real", overrides=OVERRIDES, job={"upsample": {"method": "none"}})
        for _ in ClipSimulation(_first_frames(clip), job, seed=seed):
            pass
        other.join()
    finally:
        other.terminate()
    _compile_rest(clip)


def _compile_rest(clip: Path) -> None:
    for _ in upsample(_first_frames(clip), UpsampleConfig(factor=FACTOR)):
        pass
    times = np.arange(100)
    pixels = np.zeros(100, np.uint16)
    events = Events(times, pixels, pixels, np.ones(100, np.uint8), WIDTH, HEIGHT)
    voxel_grid(events, BINS)
    levels = event_levels(events, [0.0, 30.0, 60.0], Thresholds(1.0, 1.0))
    solve(levels, Weights(fidelity=1.0, smoothness=1.0, softening=1.0), iterations=1)


def _first_frames(clip: Path) -> FrameSource:
    return open_source(clip, selection=Selection(stop_s=2.5 / FPS))


def _voxel_batch(events: Events, image_times: list[float]) -> NDArray[np.float32]:
    """(N, BINS, H, W): one E2VID voxel grid for each pair of neighbouring images."""
    windows = [
        events.between(int(start) + 1, int(stop) + 1) for start, stop in itertools.pairwise(image_times)
    ]
    return np.stack([voxel_grid(window, BINS) for window in windows])


def _reconstruct(events: Path, output: Path) -> Mapping[str, Any]:
    """Log intensity at every frame of the clip, from the events alone; what the method says of its fit."""
    resolved = resolve({"network": NETWORK, "fit": {"output": "log"}})
    method = make_predictor(NETWORK, resolved.fit, device=torch.device("cpu"))
    with open_events(events) as recording:
        return reconstruct_to_file(recording, method, output, resolved.config, fit=resolved.fit).facts


def _integrate(events: Events, times_us: list[float], job: ClipJob) -> NDArray[np.float32]:
    """Sum of each pixel's events, less its own mean: what the events say without any knowledge of images."""
    assert isinstance(job.sensor, ThresholdConfig)  # as the demo's preset makes it
    levels = integrate(
        events,
        times_us,
        contrast_threshold_on=job.sensor.contrast_threshold_on,
        contrast_threshold_off=job.sensor.contrast_threshold_off,
    )
    return np.asarray(levels - levels.mean(0), np.float32)


def _compare(
    rebuilt: NDArray[np.float32], integrated: NDArray[np.float32], truth: NDArray[np.uint8]
) -> Comparison:
    shown = {
        name: np.rint(255 * aligned_images(levels, truth, "log-affine")[0]).astype(np.uint8)
        for name, levels in (("Sum of the events", integrated), ("Variational", rebuilt))
    }
    shown["The clip"] = truth
    rows = {"sum of the events": integrated, "variational": rebuilt}
    return Comparison(
        title="The reconstruction beside the truth",
        clips={name: Animation(frames=list(frames), fps=FPS) for name, frames in shown.items()},
        caption="Events tell brightness only up to one gain and one offset of its logarithm: both are fitted "
        "to the whole sequence (log-affine), for the pictures as for the scores. Nothing else is taken from "
        "the clip.",
        scores=[{"method": name, **_rounded(aligned_scores(levels, truth))} for name, levels in rows.items()],
    )


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: round(score, 4) for name, score in scores.items()}


def _sample_light(folder: Path, job: ClipJob) -> _Light:
    """The dense frames and the light of the first third of the clip, made once more for the pictures."""
    dense, light = [], []
    for step in ClipSimulation(open_source(folder / "clip"), job, seed=job.seed):
        if step.frame.t_ns > DURATION_S * 1e9 / 3:
            break
        dense.append(step.frame.image)
        light.append(step.light)
    return _Light(dense, light)


def _stages(
    folder: Path,
    job: ClipJob,
    clip: _Timed,
    simulated: ClipResult,
    packed: _Timed,
    voxels: _Timed,
    rebuilt: _Timed,
    events: Events,
) -> list[Stage]:
    source = [frame.image for frame in open_source(folder / "clip")]
    sample = _sample_light(folder, job)
    rebuilt_frames = to_display(np.load(folder / "reconstruction.npy"))
    seconds, frames = simulated.seconds, simulated.frames
    shown = [
        view.render_events(events.between(start, start + WINDOW_US))
        for start in range(0, round(DURATION_S * 1e6), WINDOW_US)
    ]
    return [
        Stage(
            name="Clip",
            caption=f"{len(source)} frames at {FPS:g} fps: a photograph under a known camera path.",
            clip=Animation(frames=source, fps=FPS),
            seconds=clip.seconds,
            rate=_rate(clip.value, clip.seconds, "frames"),
        ),
        Stage(
            name="More frames",
            caption=f"x{FACTOR} by optical flow, played {FACTOR} times slower; source frames stay untouched.",
            clip=Animation(frames=sample.dense, fps=FPS),
            seconds=seconds["upsample"],
            rate=_rate(frames, seconds["upsample"], "frames"),
        ),
        Stage(
            name="RAW light",
            caption=f"What the sensor gets at a {LOW_LIGHT_FACTOR}th of the light, shown brightened.",
            clip=Animation(frames=[isp.preview(light) for light in sample.light], fps=FPS),
            seconds=seconds["isp"],
            rate=_rate(frames, seconds["isp"], "frames"),
        ),
        Stage(
            name="Events",
            caption=f"{simulated.events:,} events, {WINDOW_US / 1000:g} ms a picture; red ON, blue OFF.",
            clip=Animation(frames=shown, fps=FPS, crisp=True),
            seconds=seconds["sensor"],
            rate=_rate(simulated.events / 1e6, seconds["sensor"], "Mevents"),
        ),
        Stage(
            name="Packed",
            caption="HDF5 that RLED readers read, and memory-mapped columns t, xy, p for training.",
            picture=_space_time_picture(events),
            seconds=seconds["write"] + packed.seconds,
            rate=_rate(_megabytes(folder), seconds["write"] + packed.seconds, "MB"),
        ),
        Stage(
            name="Voxel grid",
            caption=f"{BINS} time bins for each pair of frames, the input of most networks.",
            picture=_voxel_picture(voxels.value[len(voxels.value) // 2]),
            crisp=True,
            seconds=voxels.seconds,
            rate=_rate(simulated.events / 1e6, voxels.seconds, "Mevents"),
        ),
        Stage(
            name="Reconstruction",
            caption="From events alone: of all videos that explain them, that of least total variation.",
            clip=Animation(frames=list(rebuilt_frames), fps=FPS),
            seconds=rebuilt.seconds,
            rate=_rate(len(rebuilt_frames), rebuilt.seconds, "frames"),
        ),
    ]


def _rate(count: float, seconds: float, unit: str) -> str:
    rate = count / max(seconds, 1e-9)
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"


def _megabytes(folder: Path) -> float:
    written = [folder / "events.h5", *(folder / "packed").rglob("*.npy")]
    return sum(path.stat().st_size for path in written) / 1e6


def _voxel_picture(grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The bins of one grid as tiles, three a row, grey where nothing happened."""
    scale = max(float(np.percentile(np.abs(grid), 99.5)), 1e-6)
    blank = [np.zeros_like(grid[0])] * (-len(grid) % 3)
    tiles = [*grid, *blank]
    rows = [np.concatenate(tiles[first : first + 3], axis=1) for first in range(0, len(tiles), 3)]
    return to_display(np.clip(np.concatenate(rows), -scale, scale), low=0, high=100)


def _space_time_picture(events: Events, *, window_us: int = 60_000, points: int = 6000) -> NDArray[np.uint8]:
    """Some of the signal events of the middle of the clip as points over t, x and y; uint8 RGB."""
    middle = round(DURATION_S * 5e5)
    part = events.between(middle, middle + window_us)
    if part.label is not None:
        part = part[part.label == SIGNAL]
    part = part[:: max(1, len(part) // points)]
    figure = Figure(figsize=(4.8, 3.6), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0.0, 0.0, 1.0, 1.0), projection="3d")  # Axes3D, which add_axes cannot tell
    colours = np.where(part.p > 0, ON_COLOUR, OFF_COLOUR)
    axes.scatter(part.t / 1000, part.x, HEIGHT - part.y.astype(int), s=1.5, c=colours, depthshade=False)
    axes.set(xlabel="t", ylabel="x", zlabel="y", xticklabels=[], yticklabels=[], zticklabels=[])
    axes.set_box_aspect((2.2, 1.4, 1.0), zoom=1.05)
    axes.view_init(elev=18, azim=-60)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _commands(final: Path, job: ClipJob) -> list[Command]:
    low_light = f"--set {OVERRIDES[0]} --seed {job.seed}"
    simulate = f"evsim simulate video clip -o events.h5 --preset sim2real --factor {FACTOR} {low_light}"
    return [
        Command(step="Enter the folder", line=f"cd {final}"),
        Command(step="Render the clip", line=_script(*_render_lines())),
        Command(step="More frames", line=f"evsim upsample clip -o clip_x{FACTOR} --factor {FACTOR}"),
        Command(
            step="RAW light", line=f"evsim unprocess clip_x{FACTOR} -o raw --preset sim2real {low_light}"
        ),
        Command(
            step="Clip to events",
            line=f"{simulate} --overwrite",
            note="The whole chain in one step, nothing intermediate on disk; writes the same bytes again.",
        ),
        Command(step="Look", line="evsim view events.h5 -o events.png"),
        Command(step="Pack", line="evsim pack rled events.h5 -o packed --memmap --overwrite"),
        Command(step="Voxel grid", line=_script(*_voxel_lines())),
        Command(
            step="Reconstruct",
            line=f"evsim reconstruct events.h5 -o reconstruction.mp4 --network {NETWORK}",
            note="A video for the eye; `-o reconstruction.npy --set fit.output=log` gives log intensity.",
        ),
    ]


def _script(*lines: str) -> str:
    return "\n".join(["python - <<END", *lines, "END"])


def _render_lines() -> list[str]:
    motion = f'CameraMotion(path="{MOTION.path}", amplitude_px={MOTION.amplitude_px:g}, '
    motion += f"rotation_deg={MOTION.rotation_deg:g}, zoom={MOTION.zoom:g})"
    size = f"({WIDTH}, {HEIGHT})"
    return [
        "from evsim.media import CameraMotion, StillImageSource, open_writer",
        f"motion = {motion}",
        f'options = {{"duration_s": {DURATION_S:g}, "fps": {FPS:g}, "size": {size}}}',
        'source = StillImageSource("scene.jpg", motion, **options)',
        f'with open_writer("clip", fps={FPS:g}, size={size}, overwrite=True) as writer:',
        "    for frame in source:",
        "        writer.write(frame.image, frame.t_ns)",
    ]


def _voxel_lines() -> list[str]:
    return [
        "from evsim import open_events",
        "from evsim.represent import voxel_grid",
        'with open_events("events.h5") as recording:',
        f"    print(voxel_grid(recording.between(0, {round(1e6 / FPS)}), bins={BINS}).shape)",
    ]
