"""Clips gradients as Lightning does."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

Clip = Callable[[Sequence[Parameter]], object]


def clipping(value: float | None, algorithm: Literal["norm", "value"] | None) -> Clip | None:
    """Returns what clips the gradients of parameters; None if nothing does."""
    if value is None:
        return None
    if algorithm == "value":
        return lambda parameters: clip_grad_value_(parameters, clip_value=value)
    return lambda parameters: clip_grad_norm_(parameters, value)
