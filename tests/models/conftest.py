"""A small FireNet in the authors' key names, for tests that need no published file."""

from __future__ import annotations

import pytest
import torch

from evsim import models
from evsim.models.firenet.checkpoint import PLUS
from evsim.models.weights.state import rename_prefixes


@pytest.fixture
def plus_state() -> dict[str, torch.Tensor]:
    """State of an untrained FireNet with 4 channels and 3 bins, under the keys of FireNet+."""
    torch.manual_seed(0)
    network = models.create("firenet", channels=4, bins=3)
    return rename_prefixes(network.state_dict(), {ours: theirs for theirs, ours in PLUS.items()})
