"""Statistics of the sensor's noise over seeds, measured as the published emulators' were.

`python tests/sensor/sensor_statistics.py STATS.json CLIP.npz [SEEDS]` writes the comparison as a table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.events import Events
from evsim.sensor import SensorConfig, Simulator
from evsim.sensor.pixels.v2e.pass_with_options import filtered_noise_deviation, white_noise_deviation

BAND, ROWS = 8, 64


class Finding(NamedTuple):
    """One statistic: what was published (mean, deviation between seeds, seeds) and what each seed gave."""

    name: str
    mean: float
    deviation: float
    seeds: int
    found: NDArray[np.float64]

    @property
    def bound(self) -> float:
        """Four standard errors of the difference, or 2 % if that is more."""
        own = float(self.found.std(ddof=1)) if len(self.found) > 1 else 0.0
        error = np.hypot(self.deviation / np.sqrt(self.seeds), own / np.sqrt(len(self.found)))
        return max(4 * float(error), 0.02 * abs(self.mean)) + 1e-12

    @property
    def difference(self) -> float:
        return float(self.found.mean()) - self.mean


def config_of(settings: dict[str, Any], model: Any) -> SensorConfig:
    """The sensor of published settings, on v2e's clock."""
    return SensorConfig(
        model=model,
        contrast_threshold_on=settings["pos_thres"],
        contrast_threshold_off=settings["neg_thres"],
        contrast_threshold_spread=settings["sigma_thres"],
        cutoff_hz=settings["cutoff_hz"],
        leak_rate_hz=settings["leak_rate_hz"],
        leak_jitter=settings.get("leak_jitter_fraction", 0.0),
        leak_rate_spread_decades=settings.get("noise_rate_cov_decades", 0.0),
        shot_noise_rate_hz=settings["shot_noise_rate_hz"],
        refractory_period_us=settings["refractory_period_s"] * 1e6,
        photoreceptor_noise=settings.get("photoreceptor_noise", False),
        clock="grid",
        float_full_scale=255.0,
    )


def compare(entry: dict[str, Any], name: str, measured: list[dict[str, float]], prefix: str) -> Finding:
    """The published statistic `name` of `entry` beside what each seed gave."""
    found = np.array([values[name] for values in measured])
    published = entry[name]
    return Finding(
        f"{prefix} {name}", published["mean"], published["sd_between_seeds"], published["n_seeds"], found
    )


def watch_still(
    config: SensorConfig, frame: NDArray[Any], count: int, interval_ns: float, seed: int
) -> Events:
    """Events of `count` equal frames."""
    height, width = frame.shape
    simulator = Simulator(config, (width, height), seed=seed, threads=1)
    return Events.concatenate([simulator.step(frame, round(k * interval_ns)) for k in range(count)])


def pairs_of(events: Events) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """For consecutive events of one pixel: its column, the interval in microseconds, whether polarities
    differ."""
    pixel = events.y.astype(np.int64) * events.width + events.x
    order = np.argsort(pixel, kind="stable")
    pixel, t, p = pixel[order], events.t[order], events.p[order]
    same = pixel[1:] == pixel[:-1]
    return (pixel[1:] % events.width)[same], np.diff(t)[same], (p[1:] != p[:-1])[same]


def static_bands(scene: dict[str, Any], model: str, seeds: range, prefix: str) -> Iterator[Finding]:
    """Rates, inter-event intervals and alternation in bands of constant light."""
    config = config_of(scene["settings"], model)
    levels = [entry["level"] for entry in scene["levels"]]
    frame = np.tile(np.repeat(np.array(levels, np.uint8), BAND), (ROWS, 1))
    measured: list[list[dict[str, float]]] = [[] for _ in levels]
    for seed in seeds:
        events = watch_still(config, frame, scene["n_frames"], scene["frame_interval_s"] * 1e9, seed)
        column, interval, alternates = pairs_of(events)
        for band, values in enumerate(measured):
            inside, between = events.x // BAND == band, column // BAND == band
            area = BAND * ROWS * scene["duration_s"]
            values.append(
                {
                    "on_rate_hz_per_px": np.count_nonzero(events.p[inside] == 1) / area,
                    "off_rate_hz_per_px": np.count_nonzero(events.p[inside] == 0) / area,
                    "pooled_isi_mean_s": interval[between].mean() * 1e-6,
                    "pooled_isi_cv": interval[between].std() / interval[between].mean(),
                    "fraction_polarity_alternation": alternates[between].mean(),
                }
            )
    for entry, values in zip(scene["levels"], measured):
        for name in values[0]:
            yield compare(entry, name, values, f"{prefix} DN {entry['level']}")


def step_latency(scene: dict[str, Any], seeds: range, prefix: str) -> Iterator[Finding]:
    """In which frame after a step of light the first event comes."""
    config = SensorConfig(
        model="idslpf",
        contrast_threshold_on=0.25,
        contrast_threshold_off=0.25,
        contrast_threshold_spread=0.0,
        cutoff_hz=1000.0,
        leak_rate_hz=0.0,
        shot_noise_rate_hz=0.0,
        refractory_period_us=0.0,
        clock="grid",
        float_full_scale=255.0,
    )
    for entry in scene["levels"]:
        found = np.zeros((len(seeds), 9))
        for i, seed in enumerate(seeds):
            simulator = Simulator(config, (32, 24), seed=seed, threads=1)
            first = np.full((24, 32), 8)
            for k in range(11):
                level = entry["level"] * (scene["factor"] if k >= 3 else 1.0)
                events = simulator.step(np.full((24, 32), level, np.float32), round(k * 1e9 / 1920))
                np.minimum.at(first, (events.y, events.x), k - 3)
            found[i] = np.bincount(first.ravel(), minlength=9) / first.size
        published = zip(entry["first_event_fraction_mean"], entry["sd_between_seeds"])
        for frame, (mean, deviation) in enumerate(published):
            name = f"{prefix} DN {entry['level']} frame {frame}"
            yield Finding(name, mean, deviation, entry["n_seeds"], found[:, frame])


def moving_scene(
    scene: dict[str, Any], frames: NDArray[Any], times: NDArray[np.float64], seeds: range
) -> Iterator[Finding]:
    """Events of a moving scene with all noise."""
    config, measured = config_of(scene["settings"], "idslpf"), []
    for seed in seeds:
        simulator = Simulator(config, frames.shape[:0:-1], seed=seed, threads=1)
        parts = [simulator.step(frame, round(t * 1e9)) for frame, t in zip(frames, times.tolist())]
        fired = [len(np.unique(part.y.astype(np.int64) * part.width + part.x)) for part in parts if len(part)]
        events = Events.concatenate(parts)
        measured.append(
            {
                "total_events": len(events),
                "on_fraction": events.p.mean(),
                "fraction_of_nonzero_pixels_per_event_frame": np.mean(fired) / frames[0].size,
            }
        )
    for name in measured[0]:
        yield compare(scene, name, measured, "moving")


def leak_only(scene: dict[str, Any], seeds: range) -> Iterator[Finding]:
    """Leak of a still scene: rate, its spread over pixels, and the regularity within a pixel."""
    config, measured = config_of(scene["settings"], "v2e"), []
    for seed in seeds:
        events = watch_still(config, np.full((64, 96), 100, np.uint8), 1001, 20e6, seed)
        pixel = events.y.astype(np.int64) * events.width + events.x
        order = np.argsort(pixel, kind="stable")
        same = np.diff(pixel[order]) == 0
        interval, owner = np.diff(events.t[order])[same] * 1e-6, pixel[order][1:][same]
        number = np.bincount(owner, minlength=64 * 96)
        mean = np.bincount(owner, interval, minlength=64 * 96) / number
        square = np.bincount(owner, (interval - mean[owner]) ** 2, minlength=64 * 96) / number
        measured.append(
            {
                "on_rate_hz_per_px": np.count_nonzero(events.p) / (64 * 96 * 20.0),
                "off_events": float(np.count_nonzero(events.p == 0)),
                "sd_log10_rate": float(np.std(np.log10(1 / mean))),
                "isi_cv_within_pixel": float(np.mean(np.sqrt(square) / mean)),
            }
        )
    for name in measured[0]:
        yield compare(scene, name, measured, "leak only")


def threshold_mismatch(scene: dict[str, Any], seeds: range) -> Iterator[Finding]:
    """The fixed pattern of the thresholds."""
    config = SensorConfig(
        contrast_threshold_on=0.25, contrast_threshold_off=0.25, contrast_threshold_spread=0.03
    )
    measured = []
    for seed in seeds:
        signals = Simulator(config, (128, 96), seed=seed, threads=1).probe()
        on, off = signals["threshold_on"].astype(np.float64), signals["threshold_off"].astype(np.float64)
        measured.append(
            {
                "pos_mean": on.mean(),
                "pos_sd": on.std(),
                "neg_mean": off.mean(),
                "neg_sd": off.std(),
                "correlation_pos_neg": float(np.corrcoef(on.ravel(), off.ravel())[0, 1]),
                "minimum": min(on.min(), off.min()),
            }
        )
    for name in measured[0]:
        yield compare(scene, name, measured, "mismatch")


def photoreceptor_noise(
    scene: dict[str, Any], seeds: range, size: tuple[int, int] = (48, 32)
) -> Iterator[Finding]:
    """Photoreceptor noise at 10 kHz for 0.4 s: rates and how regularly ON and OFF alternate."""
    settings = scene["settings"]
    config, measured = config_of(settings, "v2e"), []
    frame = np.full(size[::-1], 60, np.uint8)
    for seed in seeds:
        events = watch_still(config, frame, 4001, 1e5, seed)
        pattern = Simulator(config, size, seed=seed, threads=1).probe()
        threshold = float(np.minimum(pattern["threshold_on"], pattern["threshold_off"]).mean())
        filtered = filtered_noise_deviation(settings["shot_noise_rate_hz"], settings["cutoff_hz"], threshold)
        on = np.count_nonzero(events.p)
        measured.append(
            {
                "on_rate_hz_per_px": on / frame.size / 0.4,
                "off_rate_hz_per_px": (len(events) - on) / frame.size / 0.4,
                "fraction_polarity_alternation": float(pairs_of(events)[2].mean()),
                "injected_rms_log_units": white_noise_deviation(
                    filtered, 2 * np.pi * settings["cutoff_hz"] * 1e-4
                ),
            }
        )
    for name in measured[0]:
        yield compare(scene, name, measured, "photoreceptor noise")


def scenes(stats: dict[str, Any], clip: Any, seeds: range) -> dict[str, Callable[[], Iterator[Finding]]]:
    """All published statistics, by the name of their scene."""
    fork, stock = stats["sim2real_fork_with_idslpf"], stats["stock_v2e"]
    latency = {
        name: partial(step_latency, scene, seeds, name)
        for name, scene in fork.items()
        if name.startswith("idslpf_step_latency")
    }
    return {
        "sim2real_full_static": lambda: static_bands(
            fork["sim2real_full_static"], "idslpf", seeds, "sim2real"
        ),
        **latency,
        "sim2real_full_moving": lambda: moving_scene(
            fork["sim2real_full_moving"], clip["frames"], clip["timestamps"], seeds
        ),
        "v2e_shot_only": lambda: static_bands(stock["v2e_shot_only"], "v2e", seeds, "shot only"),
        "v2e_noisy_preset": lambda: static_bands(stock["v2e_noisy_preset"], "v2e", seeds, "noisy"),
        "v2e_leak_only": lambda: leak_only(stock["v2e_leak_only"], seeds),
        "threshold_mismatch": lambda: threshold_mismatch(stock["threshold_mismatch"], seeds),
        "v2e_photoreceptor_noise": lambda: photoreceptor_noise(stock["v2e_photoreceptor_noise"], seeds),
    }


def main(stats: str, clip: str, seeds: int = 24) -> None:
    """Write a table: how many statistics of each scene lie within the bound, and the worst one."""
    with Path(stats).open() as file, np.load(clip) as archive:
        every = scenes(json.load(file), archive, range(seeds))
        for name, measure in every.items():
            findings = list(measure())
            worst = max(findings, key=lambda one: abs(one.difference) / one.bound)
            inside = sum(abs(one.difference) <= one.bound for one in findings)
            sys.stdout.write(
                f"| {name} | {inside} of {len(findings)} | {worst.name}: {worst.found.mean():.5g}, published "
                f"{worst.mean:.5g}, bound {worst.bound:.2g} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
