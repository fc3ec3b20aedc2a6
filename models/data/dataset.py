"""Data sets whose samples are a function of (seed, epoch, index), and the loader that asks for them.

The order of samples and every draw inside one depend on nothing else: not on the number of loader processes
or devices, nor on what was loaded before. So a run continues at any step without replaying the earlier ones.
"""

from __future__ import annotations

import random
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from evsim.errors import InputError
from evsim.randomness import RandomDraws, derive_key


@dataclass(frozen=True, slots=True)
class SampleKey:
    """One sample as the loader asks for it."""

    epoch: int
    index: int


class DrawnDataset(Dataset[Any], ABC):
    """A data set whose samples draw only from what they are given.

    collate: a list of samples -> the batch; torch's default, which stacks tensors.
    """

    collate: Callable[[list[Any]], Any] = staticmethod(default_collate)

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, index: int, draws: RandomDraws) -> Any:
        """Sample `index`; every random choice in it comes from `draws`."""

    def describe(self, index: int) -> str:
        """What messages call sample `index`; nothing is loaded for it."""
        return f"sample {index}"

    def __getitem__(self, index: int) -> Any:
        """Sample `index` as epoch 0 has it."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.sample(index, sample_draws(self.seed, SampleKey(0, index)))


class FirstSamples(DrawnDataset):
    """The first `count` samples of a data set, drawn alike in every epoch: what a network must overfit."""

    def __init__(self, dataset: Dataset[Any], count: int) -> None:
        super().__init__(getattr(dataset, "seed", 0))
        if count < 1:
            raise InputError(f"overfitting on {count} samples, expected at least 1")
        self.dataset, self.count = dataset, min(count, size_of(dataset))
        self.collate = collate_of(dataset)

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, draws: RandomDraws) -> Any:
        """Sample `index` of epoch 0, whatever the epoch."""
        return load_sample(self.dataset, self.seed, SampleKey(0, index))

    def describe(self, index: int) -> str:
        """The data set's name of the sample."""
        return describe_sample(self.dataset, index)


def describe_sample(dataset: Dataset[Any], index: int) -> str:
    """What messages call sample `index` of any data set."""
    found: Callable[[int], str] | None = getattr(dataset, "describe", None)
    return f"sample {index}" if found is None else found(index)


def size_of(dataset: Dataset[Any]) -> int:
    """Samples of a data set. Raises InputError when it has none."""
    count = len(dataset)  # type: ignore[arg-type]
    if count < 1:
        raise InputError(f"{type(dataset).__name__} is empty: no sample to load")
    return count


def collate_of(dataset: Dataset[Any]) -> Callable[[list[Any]], Any]:
    """How samples of a data set become a batch."""
    found: Callable[[list[Any]], Any] = getattr(dataset, "collate", default_collate)
    return found


def sample_draws(seed: int, key: SampleKey) -> RandomDraws:
    """The draws of one sample."""
    return RandomDraws(seed, f"{key.epoch}/{key.index}", "training sample")


def load_sample(dataset: Dataset[Any], seed: int, key: SampleKey) -> Any:
    """One sample; the generators of torch, numpy and Python are seeded for data sets that use those."""
    if isinstance(dataset, DrawnDataset):
        return dataset.sample(key.index, sample_draws(seed, key))
    seed_generators(derive_key(seed, f"{key.epoch}/{key.index}", "training sample"))
    return dataset[key.index]


def seed_generators(key: int) -> None:
    """Seed the process-wide generators of torch, numpy and Python, for code that draws from them."""
    torch.manual_seed(key % 2**63)
    np.random.seed(key % 2**32)  # noqa: NPY002 - the generator that other people's data sets draw from
    random.seed(key)


def order_of(count: int, seed: int, epoch: int) -> np.ndarray:
    """int64 (count,): the order in which an epoch takes the samples."""
    bits = np.random.Generator(np.random.Philox(key=derive_key(seed, str(epoch), "training order")))
    return bits.permutation(count)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one process loads of each step.

    batch_size: samples of a step over all processes and parts. parts: in how many pieces a process computes
    its samples. process, processes: which of how many.
    """

    batch_size: int
    parts: int = 1
    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % (self.parts * self.processes):
            raise InputError(
                f"a batch of {self.batch_size} samples cannot be divided among {self.processes} devices x "
                f"{self.parts} accumulated parts; choose a multiple of {self.parts * self.processes}"
            )

    @property
    def size(self) -> int:
        """Samples of one part in one process."""
        return self.batch_size // (self.parts * self.processes)


class StepSampler(Sampler[list[SampleKey]]):
    """The keys of this process for steps first..last-1, one list for each part of a step.

    Step n takes the samples n * batch_size onwards of the endless sequence of shuffled epochs, so every
    sample is taken once an epoch also where the batch size does not divide their number.
    """

    def __init__(self, count: int, seed: int, share: Share, first: int, last: int) -> None:
        self.count, self.seed, self.share, self.first, self.last = count, seed, share, first, last

    def __len__(self) -> int:
        return (self.last - self.first) * self.share.parts

    def __iter__(self) -> Iterator[list[SampleKey]]:
        share = self.share
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.first, self.last):
            for part in range(share.parts):
                begin = step * share.batch_size + (part * share.processes + share.process) * share.size
                keys = []
                for position in range(begin, begin + share.size):
                    if position // self.count != epoch:
                        epoch = position // self.count
                        order = order_of(self.count, self.seed, epoch)
                    keys.append(SampleKey(epoch, int(order[position % self.count])))
                yield keys


class _Keyed(Dataset[Any]):
    """A data set that is asked by `SampleKey`."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: SampleKey) -> Any:
        return load_sample(self.dataset, self.seed, key)


def make_loader(
    dataset: Dataset[Any],
    keys: Sampler[list[SampleKey]],
    seed: int,
    *,
    workers: int = 0,
    pin: bool = False,
    start: str | None = None,
) -> DataLoader[Any]:
    """The loader of the batches that `keys` lists.

    workers: processes; 0 loads in this one. start: how they start, fork, spawn or forkserver; None: as the
    platform does. The batches do not depend on either.
    """
    return _Loader(
        _Keyed(dataset, seed),
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=collate_of(dataset),
        pin_memory=pin,
        worker_init_fn=prepare_worker if workers else None,
        multiprocessing_context=start if workers else None,
        # The loader would draw a seed for its processes from torch's generator; no sample depends on it.
        generator=torch.Generator(),
    )


class _Loader(DataLoader[Any]):
    """A loader whose processes are forked while OpenCV holds no threads.

    A forked process inherits OpenCV's pool without its threads and would wait for them for ever, in its
    first parallel call or on changing their number.
    """

    def __iter__(self) -> Any:
        opencv = sys.modules.get("cv2")
        if opencv is None or not self.num_workers:
            return super().__iter__()
        threads = opencv.getNumThreads()
        opencv.setNumThreads(1)
        try:
            return super().__iter__()
        finally:
            opencv.setNumThreads(threads)


def prepare_worker(number: int) -> None:
    """Make a loader process use one thread, and leave interrupts to the process that it serves."""
    import cv2
    import numba

    torch.set_num_threads(1)
    # What evsim's kernels read; numba's own pool is not started, which after a fork could end the process.
    numba.config.NUMBA_NUM_THREADS = 1  # type: ignore[attr-defined]
    if cv2.getNumThreads() != 1:  # started anew, not forked by `_Loader`
        cv2.setNumThreads(1)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def batches_of(
    dataset: Dataset[Any],
    seed: int,
    *,
    batch_size: int,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
) -> tuple[DataLoader[Any], list[int]]:
    """All samples once in order, as epoch 0 has them: this process's loader, and the size of each batch."""
    keys = [SampleKey(0, index) for index in range(process, size_of(dataset), processes)]
    lists = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    return make_loader(dataset, _Listed(lists), seed, workers=workers), [len(part) for part in lists]


class _Listed(Sampler[list[SampleKey]]):
    def __init__(self, lists: list[list[SampleKey]]) -> None:
        self.lists = lists

    def __len__(self) -> int:
        return len(self.lists)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return iter(self.lists)
