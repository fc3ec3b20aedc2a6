"""`SimulatorBatch`: several sensors of one size, each with its own parameters, that advance together.

Each clip is its own `Simulator`, so that a batch gives what the single clips give, bit for bit; threads share
the clips out instead of the rows of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim import configuration
from evsim.configuration import Tree
from evsim.errors import InputError
from evsim.events import Events
from evsim.kernels.threads.bands import RowBands
from evsim.kernels.threads.pool import ThreadPool
from evsim.sensor.config import SensorConfig
from evsim.sensor.simulator import PlannedStep, Simulator
from evsim.sensor.sums import EventSum


class SimulatorBatch:
    """Sensors that watch N clips.

    configs: one for each clip. size: (width, height) of all. seeds, clips: of each, as `Simulator` takes
    them; by default seed 0 and the clips' numbers, so that no two have the same noise. threads: clips at a
    time, None for as many as numba would use. recycle: as in `Simulator`.
    Raises InputError as `Simulator`, and for lists of different length.
    """

    def __init__(
        self,
        configs: Sequence[SensorConfig],
        size: tuple[int, int],
        seeds: Sequence[int] | None = None,
        clips: Sequence[str] | None = None,
        *,
        threads: int | None = None,
        recycle: bool = False,
    ) -> None:
        count = len(configs)
        if count == 0:
            raise InputError("a batch of no clips, expected at least one configuration")
        seeds = [0] * count if seeds is None else seeds
        clips = [str(number) for number in range(count)] if clips is None else clips
        for name, given in (("seeds", seeds), ("clips", clips)):
            if len(given) != count:
                raise InputError(f"{len(given)} {name} for {count} configurations, expected one each")
        self.size = size
        self._prepare(
            [
                Simulator(config, size, seed, clip, threads=1, recycle=recycle)
                for config, seed, clip in zip(configs, seeds, clips)
            ],
            threads,
        )

    @classmethod
    def drawn(
        cls, tree: Tree, size: tuple[int, int], clips: Sequence[str], seed: int = 0, **options: Any
    ) -> SimulatorBatch:
        """A batch whose parameters are drawn for each clip, as `evsim simulate` draws them for its name.

        tree: fields of `SensorConfig`; any value may be a draw such as "uniform(0.2, 0.3)". options: threads,
        recycle. Raises ConfigError for fields and values that cannot be.
        """
        configs = [
            configuration.build(
                SensorConfig, configuration.resolve_draws(tree, seed, clip, "sensor"), "sensor"
            )
            for clip in clips
        ]
        return cls(configs, size, [seed] * len(clips), clips, **options)

    def __len__(self) -> int:
        return len(self.simulators)

    @property
    def configs(self) -> list[SensorConfig]:
        """The parameters of each clip."""
        return [simulator.config for simulator in self.simulators]

    def step(
        self,
        frames: NDArray[Any] | Sequence[NDArray[Any]],
        t_ns: int | Sequence[int] | NDArray[np.int64],
        *,
        cuts: Sequence[bool] | None = None,
    ) -> list[Events]:
        """The events of each clip in the interval that ends with its frame; see `Simulator.step`.

        frames: N of (H, W). t_ns: nanoseconds, one time for all or one each. cuts: where a scene cut lies
        before the frame. Raises InputError as `Simulator.step`, with the number of the clip; then no clip has
        moved.
        """
        planned = self._plan(frames, t_ns, cuts, [None] * len(self))
        return self._pool.run(
            [partial(one.list_planned, step) for one, step in zip(self.simulators, planned)]
        )

    def add(
        self,
        frames: NDArray[Any] | Sequence[NDArray[Any]],
        t_ns: int | Sequence[int] | NDArray[np.int64],
        targets: Sequence[EventSum],
        *,
        cuts: Sequence[bool] | None = None,
    ) -> list[int]:
        """As `step`, but the events of clip k are added to targets[k]; how many. See `Simulator.add`."""
        if len(targets) != len(self):
            raise InputError(f"{len(targets)} targets for {len(self)} clips, expected one each")
        planned = self._plan(frames, t_ns, cuts, targets)
        return self._pool.run(
            [
                partial(one.add_planned, step, target)
                for one, step, target in zip(self.simulators, planned, targets)
            ]
        )

    def count(
        self,
        frames: NDArray[Any] | Sequence[NDArray[Any]],
        t_ns: int | Sequence[int] | NDArray[np.int64],
        *,
        cuts: Sequence[bool] | None = None,
    ) -> NDArray[np.int32]:
        """int32 (N, 2, H, W): how many ON and OFF events each pixel makes in the interval."""
        counts = np.zeros((len(self), 2, *self.size[::-1]), np.int32)
        self.add(frames, t_ns, [EventSum.counts(out) for out in counts], cuts=cuts)
        return counts

    def state(self) -> list[dict[str, Any]]:
        """The state of each clip; see `Simulator.state`."""
        return [simulator.state() for simulator in self.simulators]

    @classmethod
    def from_state(
        cls, states: Sequence[dict[str, Any]], *, threads: int | None = None, recycle: bool = False
    ) -> SimulatorBatch:
        """The batch that `state` was taken from; also of some of its clips, or of several batches."""
        batch = cls.__new__(cls)
        simulators = [Simulator.from_state(state, threads=1, recycle=recycle) for state in states]
        sizes = {simulator.size for simulator in simulators}
        if len(sizes) != 1:
            raise InputError(
                f"states of sensors of sizes {sorted(sizes)}, expected one size and at least one"
            )
        batch.size = sizes.pop()
        batch._prepare(simulators, threads)
        return batch

    def _prepare(self, simulators: list[Simulator], threads: int | None) -> None:
        self.simulators = simulators
        self._pool = ThreadPool(min(RowBands(threads).threads, len(simulators)))

    def _plan(
        self,
        frames: NDArray[Any] | Sequence[NDArray[Any]],
        t_ns: int | Sequence[int] | NDArray[np.int64],
        cuts: Sequence[bool] | None,
        targets: Sequence[EventSum | None],
    ) -> list[PlannedStep]:
        """A step of each clip; InputError if one of them is refused, before any has moved."""
        count = len(self)
        times: Any = [t_ns] * count if np.ndim(t_ns) == 0 else t_ns
        for name, given in (("frames", frames), ("times", times), ("cuts", cuts)):
            if given is not None and len(given) != count:
                raise InputError(f"{len(given)} {name} for {count} clips, expected one each")
        chosen = [False] * count if cuts is None else [bool(cut) for cut in cuts]
        planned = []
        for k, simulator in enumerate(self.simulators):
            try:
                planned.append(simulator.plan(frames[k], times[k], cut=chosen[k], target=targets[k]))
            except InputError as error:
                raise type(error)(f"clip {k} of the batch: {error}") from None
        return planned
