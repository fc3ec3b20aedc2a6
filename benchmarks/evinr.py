"""Seconds of one step of fitting EvINR: as published, our compat, and our default, measured in one run.

    OMP_NUM_THREADS=1 python benchmarks/evinr.py [--steps 8] [--size 240x180] [--frames 50]

CPU seconds on one thread, minimum and median after two steps to warm up. "published" is the same network with
autograd through the plain loss and torch's plain AdamW; random changes take the place of events, which do not
matter to the time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import torch

from evsim.kernels.evinr_loss import LossWeights
from evsim.kernels.evinr_loss.reference import loss_terms
from evsim.models.evinr.network import Evinr, EvinrConfig
from evsim.models.evinr.step import Gradients, Stepper, Targets, make_optimizer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", default="240x180")
    parser.add_argument("--frames", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(1)
    width, height = (int(side) for side in given.size.split("x"))
    print(f"{width}x{height}, {given.frames} frames, torch {torch.__version__}, CPU s per step")
    print(f"{'step':<44} {'min':>7} {'median':>7}")
    rows: list[tuple[str, Callable[[Evinr, Targets], Callable[[], object]], int, int]] = [
        ("published: autograd, plain AdamW", published, 512, 256),
        ("compat: the same bits, gradient by hand", lambda n, t: ours(n, t, exact=True), 512, 256),
        ("gradient by hand, fused AdamW", lambda n, t: ours(n, t, exact=False), 512, 256),
        ("default: the same, hidden 256, neck 128", lambda n, t: ours(n, t, exact=False), 256, 128),
    ]
    for name, make, hidden, neck in rows:
        torch.manual_seed(0)
        network = Evinr(EvinrConfig(width=width, height=height, hidden_width=hidden, neck_width=neck))
        changes = torch.randn(given.frames - 1, height, width, 1).round()
        least, median = seconds(
            make(network, Targets(torch.linspace(-1, 1, given.frames), changes)), given.steps
        )
        print(f"{name:<44} {least:7.3f} {median:7.3f}", flush=True)


def published(network: Evinr, targets: Targets) -> Callable[[], object]:
    """Autograd through the whole video."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, foreach=False, fused=False)

    def step() -> None:
        optimizer.zero_grad()
        loss_terms(network(targets.times), targets.changes, LossWeights())[0].backward()
        optimizer.step()

    return step


def ours(network: Evinr, targets: Targets, *, exact: bool) -> Callable[[], object]:
    """What a fit does."""
    optimizer = make_optimizer(network, 3e-4, 0.01, exact=exact)
    return Stepper(Gradients(network, targets, LossWeights()), optimizer).take


def seconds(step: Callable[[], object], count: int) -> tuple[float, float]:
    """CPU time of a step: the least and the median."""
    found = []
    for _ in range(count + 2):
        begin = time.process_time()
        step()
        found.append(time.process_time() - begin)
    return min(found[2:]), statistics.median(found[2:])


if __name__ == "__main__":
    main()
