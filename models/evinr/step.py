"""One step of fitting EvINR's network: the loss of all frames, its gradient by hand, AdamW.

Autograd would keep the video, its differences and their signs in memory several times over. Written by hand
the loss reads the video once; the gradient goes back through the last layer, which holds nine tenths of the
parameters, by two matrix products into memory that every step uses again. Only the small layers before it are
left to autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evsim.kernels.evinr_loss import EvinrLoss, LossWeights, evinr_loss_and_gradient
from evsim.models.evinr.network import Evinr

WARM_UP = 3
"""Steps that CUDA takes before its kernels are recorded, so that nothing is compiled while it records."""
BLOCK_ROWS = 256
"""Rows of the last layer that one call of the plain optimiser works on."""


@dataclass(frozen=True)
class Targets:
    """What the network is fitted to.

    times: float32 (F,) of the network. changes: float32 (F - 1, H, W, C), by the events between consecutive
    times.
    """

    times: Tensor
    changes: Tensor

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        return Targets(self.times.to(device), self.changes.contiguous().to(device))


class Gradients:
    """The loss for one set of targets, and the gradients of all parameters in their `grad`."""

    def __init__(self, network: Evinr, targets: Targets, weights: LossWeights) -> None:
        self.network, self.targets, self.weights = network, targets, weights
        readout = network.readout
        shape = (len(targets.times), readout.out_features)
        self._video, self._slope = (readout.weight.new_empty(shape) for _ in range(2))
        for parameter in (readout.weight, readout.bias):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)

    def compute(self) -> EvinrLoss:
        """The loss of the network as it is now; the gradients replace earlier ones."""
        network, readout = self.network, self.network.readout
        omega = network.config.omega
        for layer in network.layers:
            layer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            features = network.features(self.targets.times)
        with torch.no_grad():
            # Operation by operation as autograd would, so that every bit is the same.
            neck = features.detach()
            torch.addmm(readout.bias, neck, readout.weight.T, out=self._video).mul_(omega)
            loss, _ = evinr_loss_and_gradient(
                network.frames(self._video),
                self.targets.changes,
                self.weights,
                out=network.frames(self._slope),
            )
            self._slope.mul_(omega)
            torch.mm(self._slope.T, neck, out=readout.weight.grad)
            torch.sum(self._slope, 0, out=readout.bias.grad)
            back = self._slope @ readout.weight
        features.backward(back)
        return loss


class Stepper:
    """Takes steps of AdamW; on a GPU they are one recorded graph, which needs no launch per kernel.

    The first steps on a GPU run unrecorded and count like any other.
    """

    def __init__(self, gradients: Gradients, optimizer: torch.optim.AdamW) -> None:
        self._gradients, self._optimizer = gradients, optimizer
        self._left = WARM_UP if gradients.targets.times.is_cuda else -1
        self._replay: Callable[[], None] | None = None
        self._loss: EvinrLoss | None = None

    def take(self) -> EvinrLoss:
        """One step; the loss before it. On a GPU its tensors are overwritten by the next step."""
        if self._left == 0:
            self._record()
        if self._replay is not None:
            self._replay()
        elif self._left > 0:
            self._left -= 1
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._loss = self._once()
            torch.cuda.current_stream().wait_stream(side)
        else:
            self._loss = self._once()
        assert self._loss is not None
        return self._loss

    def _once(self) -> EvinrLoss:
        loss = self._gradients.compute()
        self._optimizer.step()
        return loss

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._loss = self._once()
        self._left, self._replay = -1, graph.replay


def make_optimizer(
    network: Evinr, learning_rate: float, weight_decay: float, *, exact: bool = False
) -> torch.optim.AdamW:
    """AdamW over all parameters, one fused operation each.

    exact: round as torch's plain implementation does, which the published code runs. On a CPU the last layer
    is then handed over in blocks of rows, so that its ten operations find a block in the cache.
    """
    readout, on_gpu = network.readout, network.readout.weight.is_cuda
    exact = exact and not on_gpu
    parameters = list(network.parameters())
    if exact:
        readout.weight.grad = torch.zeros_like(readout.weight)
        rest = [parameter for parameter in parameters if parameter is not readout.weight]
        parameters = [*rest, *_row_blocks(readout.weight)]
    return torch.optim.AdamW(
        parameters,
        lr=learning_rate,
        weight_decay=weight_decay,
        fused=not exact,
        foreach=False if exact else None,
        capturable=on_gpu,
    )


def _row_blocks(weight: Tensor) -> list[nn.Parameter]:
    """Parameters that are blocks of rows of another one, and their gradients blocks of its gradient."""
    assert weight.grad is not None
    blocks = []
    for values, gradient in zip(weight.data.split(BLOCK_ROWS), weight.grad.split(BLOCK_ROWS)):
        block = nn.Parameter(values)
        block.grad = gradient
        blocks.append(block)
    return blocks
