"""What every operator promises, tested once: a kernel's tests are a subclass that says what to call it with.

`KernelConformance` is for any operator, `GradientConformance` for those that torch differentiates. The
reference, in float64, is what all are compared with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

Arguments = tuple[Any, ...]


class KernelConformance:
    """call: the operator, with `backend=`; its result is a tensor, an array, or a tuple of these.

    backends: what is compared with the reference. cases: name -> its arguments; degenerate shapes (nothing,
    one of each, sides that no block divides) are among them. rtol, atol: of float32 against float64.
    """

    backends: ClassVar[tuple[str, ...]] = ("cpu", "gpu")
    rtol: ClassVar[float] = 1e-5
    atol: ClassVar[float] = 1e-5

    @staticmethod
    def call(*arguments: Any, backend: str) -> Any:
        raise NotImplementedError

    @staticmethod
    def cases() -> dict[str, Arguments]:
        raise NotImplementedError

    def results(self, arguments: Arguments, backend: str) -> tuple[Tensor, ...]:
        """What the operator gives, as a tuple of tensors."""
        return as_tensors(self.call(*arguments, backend=backend))

    def wanted(self, arguments: Arguments) -> tuple[Tensor, ...]:
        """What the reference gives in float64."""
        return self.results(in_float64(arguments), "reference")

    def test_values_are_those_of_the_reference(self, case: str, backend: str) -> None:
        arguments = self.cases()[case]
        self.require_close(self.results(arguments, backend), self.wanted(arguments))

    def test_every_cell_is_written(
        self, case: str, any_backend: str, poisoned_memory: Callable[[], Any]
    ) -> None:
        arguments = self.cases()[case]
        wanted = self.wanted(arguments)
        with poisoned_memory():
            self.require_close(self.results(arguments, any_backend), wanted)

    def test_arguments_are_left_as_they_were(self, case: str, any_backend: str) -> None:
        arguments = self.cases()[case]
        before = copy.deepcopy(arguments)
        self.results(arguments, any_backend)
        for old, value in zip(before, arguments):
            assert not isinstance(value, Tensor) or torch.equal(old, value)
            assert not isinstance(value, np.ndarray) or np.array_equal(old, value)

    def require_close(self, found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted):
            torch.testing.assert_close(
                one.double(), other.double(), rtol=self.rtol, atol=self.atol, equal_nan=True
            )


class GradientConformance(KernelConformance):
    """An operator that torch differentiates.

    differentiable: positions of the arguments that have a gradient. smooth: arguments in float64 at which the
    operator has no kink, for finite differences, of a few dozen numbers. compiled: case that is traced.
    """

    differentiable: ClassVar[tuple[int, ...]] = (0,)
    compiled: ClassVar[str]

    @staticmethod
    def smooth() -> Arguments:
        raise NotImplementedError

    def loss(self, results: tuple[Tensor, ...]) -> Tensor:
        """A scalar to which every number of every result with a gradient matters differently."""
        terms = [
            (
                result * torch.linspace(0.5, 1.5, result.numel(), dtype=result.dtype).reshape(result.shape)
            ).sum()
            for result in results
            if result.requires_grad
        ]
        return torch.stack(terms).sum()

    def gradients(self, arguments: Arguments, backend: str) -> list[Tensor]:
        leaves = self.as_leaves(arguments)
        total = self.loss(self.results(leaves, backend))
        return list(torch.autograd.grad(total, [leaves[k] for k in self.differentiable]))

    def as_leaves(self, arguments: Arguments) -> Arguments:
        return tuple(
            value.clone().requires_grad_() if k in self.differentiable else value
            for k, value in enumerate(arguments)
        )

    def test_gradients_are_those_of_the_reference(self, case: str, backend: str) -> None:
        arguments = self.cases()[case]
        wanted = self.gradients(in_float64(arguments), "reference")
        self.require_close(tuple(self.gradients(arguments, backend)), tuple(wanted))

    def test_gradients_are_written_whole(
        self, case: str, backend: str, poisoned_memory: Callable[[], Any]
    ) -> None:
        arguments = self.cases()[case]
        wanted = self.gradients(in_float64(arguments), "reference")
        with poisoned_memory():
            self.require_close(tuple(self.gradients(arguments, backend)), tuple(wanted))

    def test_gradients_are_slopes(self, any_backend: str) -> None:
        """Finite differences, which know nothing of the reference."""
        leaves = self.as_leaves(self.smooth())

        def scalar(*values: Tensor) -> Tensor:
            given = list(leaves)
            for k, value in zip(self.differentiable, values):
                given[k] = value
            return self.loss(self.results(tuple(given), any_backend))

        # Triton's interpreter and compiled sums may add in float32 what the reference adds in float64.
        assert torch.autograd.gradcheck(
            scalar, [leaves[k] for k in self.differentiable], eps=1e-4, atol=1e-4, rtol=1e-3
        )

    def test_nothing_is_kept_for_what_needs_no_gradient(self, backend: str) -> None:
        results = self.results(self.cases()[self.compiled], backend)
        assert not any(result.requires_grad for result in results)

    def test_it_is_traced_whole_under_compile(self, backend: str) -> None:
        arguments = self.cases()[self.compiled]
        torch.compiler.reset()
        traced = torch.compile(self.call, fullgraph=True, backend="aot_eager")
        leaves = self.as_leaves(arguments)
        results = as_tensors(traced(*leaves, backend=backend))
        slopes = torch.autograd.grad(self.loss(results), [leaves[k] for k in self.differentiable])
        self.require_close(results, self.results(arguments, backend))
        self.require_close(tuple(slopes), tuple(self.gradients(arguments, backend)))

    def test_shapes_are_known_without_data(self, case: str, backend: str) -> None:
        arguments = self.cases()[case]
        with FakeTensorMode() as mode:
            fakes = tuple(
                mode.from_tensor(value) if isinstance(value, Tensor) else value for value in arguments
            )
            found = [(fake.shape, fake.dtype) for fake in as_tensors(self.call(*fakes, backend=backend))]
        assert found == [(real.shape, real.dtype) for real in self.results(arguments, backend)]


def as_tensors(results: Any) -> tuple[Tensor, ...]:
    several = results if isinstance(results, tuple) else (results,)
    return tuple(torch.from_numpy(one) if isinstance(one, np.ndarray) else one for one in several)


def in_float64(arguments: Arguments) -> Arguments:
    return tuple(
        value.double()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value.astype(np.float64)
        if isinstance(value, np.ndarray) and value.dtype == np.float32
        else value
        for value in arguments
    )


def filled(make: Callable[..., Any]) -> Callable[..., Any]:
    """A maker of uninitialised memory whose memory holds NaN, or the largest integer."""

    def poisoned(*arguments: Any, **options: Any) -> Any:
        made = make(*arguments, **options)
        if isinstance(made, np.ndarray):
            if made.dtype.kind in "fc":
                made.fill(np.nan)
            elif made.dtype.kind in "iu":
                made.fill(np.iinfo(made.dtype).max)
        elif isinstance(made, Tensor) and not made.is_meta:
            if made.is_floating_point():
                made.fill_(float("nan"))
            elif not made.is_complex() and made.dtype != torch.bool:
                made.fill_(torch.iinfo(made.dtype).max)
        return made

    return poisoned


def parametrize(metafunc: pytest.Metafunc) -> None:
    """One test for every case and backend of a conformance class."""
    kernel = metafunc.cls
    if kernel is None or not issubclass(kernel, KernelConformance):
        return
    for name, values in (
        ("case", list(kernel.cases())),
        ("backend", kernel.backends),
        ("any_backend", (*kernel.backends, "reference")),
    ):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


MAKERS = (
    (torch, "empty"),
    (torch, "empty_like"),
    (Tensor, "new_empty"),
    (np, "empty"),
    (np, "empty_like"),
)


def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let everything that makes uninitialised memory fill it."""
    with monkeypatch.context() as patch:
        for home, name in MAKERS:
            patch.setattr(home, name, filled(getattr(home, name)))
        yield
