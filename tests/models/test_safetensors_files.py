"""Safetensors files written one tensor at a time: the bytes of the package's own writer, no second copy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from evsim.models.weights.safetensors_files import KINDS, write_safetensors

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("metadata", [{}, {"evsim": '{"name": "é\\n\x01\x7f/\\"\\\\"}'}])
def test_the_bytes_are_those_of_the_package(metadata: dict[str, str], tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{name}.{number}{shape}": torch.randint(0, 2, shape, generator=generator).to(kind)
        for number, kind in enumerate(KINDS)
        for name in ("b", "aé", "B")
        for shape in ((3, 5), (), (0, 4))
    }
    write_safetensors(tmp_path / "x", tensors, metadata)
    assert (tmp_path / "x").read_bytes() == save(tensors, metadata or None)
    write_safetensors(tmp_path / "empty", {}, {})
    assert (tmp_path / "empty").read_bytes() == save({})


def test_views_and_shared_tensors_are_written_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4).requires_grad_()
    write_safetensors(tmp_path / "x", {"a": base, "b": base, "c": base.t(), "d": base[1:, ::2]}, {})
    found = load_file(tmp_path / "x")
    assert torch.equal(found["a"], base)
    assert torch.equal(found["b"], base)
    assert torch.equal(found["c"], base.t())
    assert torch.equal(found["d"], base[1:, ::2])


def test_a_kind_that_the_format_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"a is torch\.complex128"):
        write_safetensors(tmp_path / "x", {"a": torch.zeros(2, dtype=torch.complex128)}, {})


MEASURE = """
import resource, sys, torch
from pathlib import Path
from torch import nn
from evsim.models.training.folder import write_weights
from evsim.models.training.state_file import write_state

network = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(12)))
moments = {k: {"exp_avg": torch.randn(1024, 1024), "exp_avg_sq": torch.randn(1024, 1024)} for k in range(19)}
tree = {"network": dict(network.state_dict()), "optimizer": {"state": moments}}
every = [*tree["network"].values(), *(tensor for both in moments.values() for tensor in both.values())]
held = sum(tensor.nbytes for tensor in every)
write_state(Path(sys.argv[1]) / "small", {"a": torch.zeros(9)})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_state(Path(sys.argv[1]) / "state.safetensors", tree)
write_weights(network, Path(sys.argv[1]) / "last.safetensors")
print(held, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_a_state_is_not_held_twice_while_it_is_written(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", MEASURE, str(tmp_path)]
    held, grown = map(int, subprocess.check_output(words, env=environment, text=True).split())
    assert held > 200e6
    assert (tmp_path / "state.safetensors").stat().st_size > held
    assert grown < 0.2 * held, grown
