"""Single stages of the chain, frames in and frames out: the work behind `evsim upsample` and `unprocess`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from evsim import configuration
from evsim.errors import InputError
from evsim.files import require_absent
from evsim.isp import IspParameters, draw_parameters, frame_noise_key, unprocess
from evsim.media import Frame, FrameSource, open_writer
from evsim.pipelines.simulate import ClipJob, Report, expected_frames, write_configuration
from evsim.upsample import make_interpolator, upsample


def upsample_to_file(
    source: FrameSource,
    output: Path,
    job: ClipJob,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Write `source` with more frames per second, as `job.upsample` says, its configuration beside it.

    Returns names and values to print. Raises InputError for what cannot be read or written.
    """
    expected = expected_frames(source, job)
    if dry_run:
        return _plan(source, output, expected, overwrite)
    interpolator = make_interpolator(job.upsample)
    frames = upsample(source, job.upsample, interpolator=interpolator)
    factor = 1 if job.upsample.method == "none" else job.upsample.factor
    written, cuts = _write_frames(frames, source, output, expected, overwrite, report, factor)
    files = interpolator.files if interpolator else {}
    beside = write_configuration(job, output, files=files)
    done = {"output": str(output), "configuration": str(beside), "frames": written, "scene_cuts": cuts}
    return {**done, "files": dict(files)} if files else done


def unprocess_to_file(
    source: FrameSource,
    output: Path,
    job: ClipJob,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Write the RAW light of every frame of `source`, its configuration with the drawn camera beside it.

    Returns names and values to print. Raises InputError for what cannot be read or written.
    """
    parameters = draw_parameters(job.isp, job.seed, job.clip)
    expected = source.frame_count
    record = {"isp": configuration.to_tree(job.isp), "parameters": parameters.to_dict()}
    if dry_run:
        return {**_plan(source, output, expected, overwrite), **record}
    light = (
        frame._replace(image=_light(frame, index, source, parameters, job))
        for index, frame in enumerate(source)
    )
    written, _ = _write_frames(light, source, output, expected, overwrite, report, 1)
    beside = write_configuration(job, output, parameters)
    return {"output": str(output), "configuration": str(beside), "frames": written, **record}


def _light(
    frame: Frame, index: int, source: FrameSource, parameters: IspParameters, job: ClipJob
) -> NDArray[Any]:
    noise_key = None if job.isp.noise == "none" else frame_noise_key(job.seed, job.clip, index)
    return unprocess(frame.image, parameters, job.isp, source.transfer, noise_key=noise_key)


def _plan(source: FrameSource, output: Path, expected: int | None, overwrite: bool) -> dict[str, Any]:
    require_absent(output, overwrite=overwrite)
    describe = getattr(source, "describe", dict)
    return {"output": str(output), "source": describe(), "frames": expected, "written": "nothing"}


def _write_frames(
    frames: Iterable[Frame],
    source: FrameSource,
    output: Path,
    expected: int | None,
    overwrite: bool,
    report: Report | None,
    factor: int,
) -> tuple[int, int]:
    written = cuts = 0
    fps = getattr(source, "fps", 0.0) * factor or None
    with open_writer(output, fps=fps, size=(source.width, source.height), overwrite=overwrite) as writer:
        for frame in frames:
            writer.write(frame.image, frame.t_ns)
            written += 1
            cuts += frame.cut
            if report:
                report(written, expected, "")
        if not written:
            raise InputError(f"{source.name} gave no frame")
    return written, cuts
