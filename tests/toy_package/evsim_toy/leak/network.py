"""The network: what the events of a window add up to, smoothed, on a state that leaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evsim.models.data.collate import RaggedEvents


@dataclass(frozen=True, kw_only=True)
class LeakConfig:
    """Hyper-parameters."""

    kernel_size: int = 3
    """Side of the convolution, odd."""


class Leak(nn.Module):
    """Events of one window and the state before to the image at its end and the state after."""

    name: ClassVar[str] = "toy_leak"

    def __init__(self, config: LeakConfig) -> None:
        super().__init__()
        self.config = config
        self.smooth = nn.Conv2d(2, 1, config.kernel_size, padding=config.kernel_size // 2)
        self.leak = nn.Parameter(torch.tensor(0.1))

    def forward(self, events: RaggedEvents, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) image and state; events: of one window each, state: None for 0."""
        change = self.smooth(counts(events))
        state = change if state is None else (1 - self.leak) * state + change
        return 0.5 + state, state


def counts(events: RaggedEvents) -> Tensor:
    """float32 (B, 2, H, W): OFF and ON events of each pixel."""
    size = (len(events), 2, events.height, events.width)
    plane = events.batch_index() * 2 + events.p.long()
    pixel = (plane * events.height + events.y.long()) * events.width + events.x.long()
    flat = torch.zeros(len(events) * 2 * events.height * events.width, device=events.device)
    return flat.index_add(0, pixel, torch.ones_like(pixel, dtype=flat.dtype)).reshape(size)
