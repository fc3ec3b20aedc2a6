"""`tensor_operator`: a compiled operator made known to torch, with its gradient and its shapes.

torch then differentiates it, traces it under `torch.compile` and runs it on fake tensors; what it computes
stays a function of this package. The reference of an operator is plain torch and needs none of this: it is
called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Backward = Callable[..., Sequence[Tensor | None]]


def tensor_operator(
    name: str,
    forward: Callable[..., Any],
    *,
    shapes: Callable[..., Any],
    backward: Backward | None = None,
    fixed: Sequence[str] = (),
) -> Callable[..., Any]:
    """The operator ``torch.ops.evsim.<name>`` with the arguments and results of `forward`.

    forward: its arguments are annotated as tensors, tensors or None, numbers, words or sequences of these; it
    returns one tensor or a tuple of them, none of which shares memory with an argument. shapes: the same
    arguments -> empty tensors of the shapes and types that `forward` returns. backward: (needed, upstream,
    arguments, results) -> the gradient by each tensor argument in order, None where it is not needed;
    needed: bool for each; upstream: the gradients by the results. fixed: tensor arguments that have none.
    A backward of compiled code is an operator too, ``<name>_backward``, so that it can be traced.
    """
    made = torch.library.custom_op(f"evsim::{name}", forward, mutates_args=())
    made.register_fake(shapes)
    if backward is not None:
        _register_backward(made, name, backward, fixed)
    return made


def _register_backward(made: Any, name: str, backward: Backward, fixed: Sequence[str]) -> None:
    arguments = made._opoverload._schema.arguments
    tensors = [k for k, argument in enumerate(arguments) if "Tensor" in str(argument.type)]
    slopes = [k for k in tensors if arguments[k].name not in fixed]
    several = len(made._opoverload._schema.returns) > 1
    text = str(made._opoverload._schema)
    own = text[text.index("(") + 1 : text.rindex(") ->")]

    def run(needed: Sequence[bool], upstream: Sequence[Tensor], *rest: Any) -> list[Tensor]:
        inputs, results = rest[: len(arguments)], rest[len(arguments)]
        found = backward(needed, upstream, inputs, results)
        return [
            # A result stands for each gradient: an operator's results are tensors, and none is another.
            upstream[0].new_empty(0) if slope is None else slope
            for slope in found
        ]

    def empty(needed: Sequence[bool], upstream: Sequence[Tensor], *rest: Any) -> list[Tensor]:
        return [
            torch.empty_like(rest[k]) if wanted else upstream[0].new_empty(0)
            for k, wanted in zip(slopes, needed, strict=True)
        ]

    schema = f"(bool[] needed, Tensor[] upstream, {own}, Tensor[] results) -> Tensor[]"
    operator = torch.library.custom_op(f"evsim::{name}_backward", run, mutates_args=(), schema=schema)
    operator.register_fake(empty)

    # The names of its arguments are torch's.
    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        results = output if several else (output,)
        ctx.plain = [None if k in tensors else value for k, value in enumerate(inputs)]
        ctx.save_for_backward(*(inputs[k] for k in tensors), *results)

    def differentiate(context: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        inputs = list(context.plain)
        for k, tensor in zip(tensors, context.saved_tensors):
            inputs[k] = tensor
        results = list(context.saved_tensors[len(tensors) :])
        complete = [
            torch.zeros_like(result) if slope is None else slope for slope, result in zip(upstream, results)
        ]
        needed = [bool(context.needs_input_grad[k]) for k in slopes]
        gradients: list[Tensor | None] = [None] * len(inputs)
        if any(needed):
            found = operator(needed, complete, *inputs, results)
            for k, wanted, slope in zip(slopes, needed, found, strict=True):
                gradients[k] = slope if wanted else None
        return tuple(gradients)

    made.register_autograd(differentiate, setup_context=keep)
