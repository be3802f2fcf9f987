"""What a training step changes, kept for a while: steps can be tried, and leave no trace."""

import random
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric.utilities.seed import _collect_rng_states, _set_rng_states
from torch import Tensor, nn
from torch.optim import Optimizer

_PLAIN = (bool, int, float, str)


class Snapshot:
    """Parameters, buffers and attributes, the optimizer's state, and the random state of this process, as they are."""

    def __init__(self, module: nn.Module, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.parameters = list(module.parameters())
        self._buffers = [(owner, name, each) for owner in module.modules() for name, each in owner._buffers.items()]
        self._attributes = attributes(module)
        self._tensors = [*self.parameters, *(each for _, _, each in self._buffers if each is not None)]
        self._values = [tensor.detach().clone() for tensor in self._tensors]
        self._state = {
            parameter: {name: _copy(value) for name, value in state.items()}
            for parameter, state in optimizer.state.items()
        }
        self._random = _collect_rng_states()

    @property
    def parameter_values(self) -> list[Tensor]:
        return self._values[: len(self.parameters)]

    def why_not_repeatable(self) -> str | None:
        """Returns what the steps since then have changed, but would not if a device repeated them; None if nothing."""
        for owner, name, buffer in self._buffers:
            if owner._buffers.get(name) is not buffer:
                return f"a step replaces the buffer {name}"
        for owner, name, value in self._attributes:
            if vars(owner).get(name) != value:
                return f"a step changes the attribute {name}"
        if any(state.keys() - self._state.get(each, {}).keys() for each, state in self._optimizer.state.items()):
            return "a step adds to the optimizer's state"
        return None

    @torch.no_grad()
    def restore(self) -> None:
        """Puts everything back, tensors in their places, and drops the gradients."""
        for owner, name, buffer in self._buffers:
            owner._buffers[name] = buffer
        for owner, name, value in self._attributes:
            vars(owner)[name] = value
        for tensor, value in zip(self._tensors, self._values, strict=True):
            tensor.copy_(value)
        for parameter in [each for each in self._optimizer.state if each not in self._state]:
            del self._optimizer.state[parameter]
        for parameter, kept in self._state.items():
            state = self._optimizer.state[parameter]
            for name in [each for each in state if each not in kept]:
                del state[name]
            for name, value in kept.items():
                if isinstance(value, Tensor) and isinstance(state.get(name), Tensor):
                    state[name].copy_(value)
                else:
                    state[name] = value
        _set_rng_states(self._random)
        self._optimizer.zero_grad(set_to_none=True)


def attributes(module: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """Returns the attributes of all layers that are numbers, texts or booleans, such as the rate of a dropout."""
    every = ((owner, name, value) for owner in module.modules() for name, value in vars(owner).items())
    return [(owner, name, value) for owner, name, value in every if isinstance(value, _PLAIN)]


def random_state_beside(device: torch.device) -> tuple[Any, ...]:
    """Returns the states of the generators but the device's own, to compare them."""
    _, keys, *rest = cast(tuple[Any, ...], np.random.get_state(legacy=True))
    on_host = b"" if device.type == "cpu" else torch.get_rng_state().numpy().tobytes()
    return on_host, random.getstate(), keys.tobytes(), *rest


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
