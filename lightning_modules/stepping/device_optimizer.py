"""An optimizer whose steps need nothing of the host: its learning rates and counters are tensors on the device."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

# Shapes: T steps, G groups of parameters.
_FUSED = (Adam, AdamW, SGD)  # torch has one kernel for all parameters of these


def why_not_captured(optimizer: Optimizer) -> str | None:
    """Returns what hinders the optimizer from taking its steps on the device alone; None if nothing is known."""
    name = type(optimizer).__name__
    groups = optimizer.param_groups
    if any(group.get("differentiable") for group in groups):
        return f"the optimizer {name} is differentiable"
    if type(optimizer) is SGD:
        unfused = any(group["foreach"] or group["fused"] is False for group in groups)
        return "optimizer.args chooses an SGD that is not fused" if unfused else None
    if not all("capturable" in group for group in groups):
        return f"the optimizer {name} cannot be captured"
    numbers = [name for state in optimizer.state.values() for name, value in state.items() if _is_number(value)]
    return f"the optimizer keeps its {numbers[0]} on the host" if numbers else None


class DeviceOptimizer:
    """Steps by the learning rates in a table, of which a counter on the device chooses the row.

    Outside of `step` the optimizer is as it was made, with its learning rates as numbers: schedules, callbacks and
    checkpoints find it as in any other training. Its other settings, such as the betas of Adam, are in each step what
    they were when this was made: `has_changed` says whether they are still the optimizer's. `steps`: the table's rows.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device, steps: int) -> None:
        self.optimizer = optimizer
        self._is_cuda = device.type == "cuda"
        # The kernels on a GPU read single precision; elsewhere the numbers are those of a Python float.
        dtype = torch.float32 if self._is_cuda else torch.float64
        self.rates_TG = torch.zeros(steps, len(optimizer.param_groups), dtype=dtype, device=device)
        self._rates_1G = torch.zeros_like(self.rates_TG[:1])
        self._settings = settings_of(optimizer)
        self._moved: set[str] = set()  # the state that torch keeps on the host
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.device != parameter.device:
                    state[name] = value.to(parameter.device)
                    self._moved.add(name)
        optimizer._warned_capturable_if_run_uncaptured = True  # a last short batch is a step without a graph

    @property
    def has_changed(self) -> bool:
        return settings_of(self.optimizer) != self._settings

    @property
    def rates_G(self) -> list[float]:
        """The learning rates that the optimizer now has."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def set_rates(self, rates_TG: Sequence[Sequence[float]]) -> None:
        """Sets the learning rates of the next steps. The host does not wait."""
        rates = torch.tensor(rates_TG, dtype=self.rates_TG.dtype)
        rates = rates.pin_memory() if self._is_cuda else rates
        self.rates_TG[: len(rates)].copy_(rates, non_blocking=True)

    def step(self, counter_1: Tensor) -> None:
        """Takes a step by the rates in row `counter_1` (1,)."""
        torch.index_select(self.rates_TG, 0, counter_1, out=self._rates_1G)
        with self._on_device():
            self.optimizer.step()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        groups = self.optimizer.param_groups
        before = [dict(group) for group in groups]
        try:
            for index, (group, settings) in enumerate(zip(groups, self._settings, strict=True)):
                group.update(settings)
                group["lr"] = self._rates_1G[0, index]
                if self._is_cuda and "capturable" in group:
                    group["capturable"] = True
                if self._is_cuda and self._can_be_fused(group):
                    group["fused"] = True
            yield
        finally:
            for group, settings in zip(groups, before, strict=True):
                group.update(settings)

    def _can_be_fused(self, group: Mapping[str, Any]) -> bool:
        is_chosen = group.get("foreach") is not None or group.get("fused") is not None
        return type(self.optimizer) in _FUSED and not is_chosen and all(p.is_floating_point() for p in group["params"])

    def release(self) -> None:
        """Puts on the host what torch keeps there."""
        for state in self.optimizer.state.values():
            state.update({name: state[name].cpu() for name in self._moved & state.keys()})

    def saved(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a state of the optimizer as it is without this class, so that any training can resume from it."""
        states = {
            index: {name: value.cpu() if name in self._moved else value for name, value in state.items()}
            for index, state in state_dict["state"].items()
        }
        return {**state_dict, "state": states}


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Returns what the groups of parameters are told besides their rates."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
