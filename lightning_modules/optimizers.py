"""Settings of optimizers and learning-rate schedules, and the torch objects built from them."""

import math
from dataclasses import field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.config import Decay, Share, check_settings, section
from lightning_modules.errors import InputError

OptimizerKind = Literal["sgd", "adam", "adamw", "rmsprop"]
ScheduleKind = Literal["constant", "cosine", "one_cycle", "step"]

# The settings that each optimizer has besides lr and weight_decay.
SETTINGS: dict[str, set[str]] = {
    "sgd": {"momentum", "nesterov"},
    "adam": {"beta1", "beta2", "eps"},
    "adamw": {"beta1", "beta2", "eps"},
    "rmsprop": {"momentum", "alpha", "eps"},
}


@section("optimizer.schedule")
class ScheduleConfig:
    """How the learning rate changes at each step of a run, as a share of `optimizer.lr`.

    Every kind first raises it linearly over `warmup_fraction` of the run's steps. Then `constant` keeps it, `cosine`
    lowers it to 0 (Loshchilov & Hutter 2017, without restarts), and `step` multiplies it by `gamma` after each
    `step_fraction` of the run. `one_cycle` (Smith & Topin 2018, with the proportions of torch's OneCycleLR and without
    its momentum cycle) raises and lowers it along cosines, from lr/25 to lr to lr/250,000.
    """

    kind: ScheduleKind = "constant"
    # share of all steps; null: 0, or 0.3 for one_cycle
    warmup_fraction: Annotated[float, Field(ge=0, lt=1, examples=[0.1])] | None = None
    step_fraction: Share = 1 / 3  # kind step: share of all steps between two drops
    gamma: Share = 0.1  # kind step: factor of each drop

    def factor(self, step: int, total_steps: int) -> float:
        """Returns the share of the peak learning rate at step `step` (counted from 0) of `total_steps`."""
        default_warmup = 0.3 if self.kind == "one_cycle" else 0.0
        warmup = round((default_warmup if self.warmup_fraction is None else self.warmup_fraction) * total_steps)
        if step < warmup:
            return _cosine(1 / 25, 1.0, step / warmup) if self.kind == "one_cycle" else (step + 1) / (warmup + 1)
        after = (step - warmup) / max(1, total_steps - warmup)
        match self.kind:
            case "cosine":
                return _cosine(1.0, 0.0, after)
            case "one_cycle":
                return _cosine(1.0, 1 / 250_000, after)
            case "step":
                return self.gamma ** math.floor(step / total_steps / self.step_fraction + 1e-9)
            case _:
                return 1.0


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


@section("optimizer")
class OptimizerConfig:
    """An optimizer of torch.optim. A null setting has torch's default. A setting of another kind is an error."""

    kind: OptimizerKind = "adam"
    lr: PositiveFloat = 0.001  # the peak learning rate
    weight_decay: NonNegativeFloat = 0.0  # L2 penalty; decoupled for adamw
    momentum: Decay | None = None  # sgd, rmsprop
    nesterov: bool | None = None  # sgd, with momentum
    beta1: Decay | None = None  # adam, adamw: decay of the mean gradient
    beta2: Decay | None = None  # adam, adamw: decay of the mean squared gradient
    alpha: Decay | None = None  # rmsprop: decay of the mean squared gradient
    eps: Annotated[float, Field(gt=0, examples=[1e-8])] | None = None  # adam, adamw, rmsprop
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        check_settings("optimizer", self, SETTINGS)
        if self.nesterov and not self.momentum:
            remedy = "set optimizer.momentum, for example 0.9"
            raise InputError("optimizer.nesterov", True, "needs momentum above 0", remedy)

    def build(self, network: Module) -> Optimizer:
        """Returns the torch optimizer for all parameters of `network`."""
        given = {name: value for name in SETTINGS[self.kind] if (value := getattr(self, name)) is not None}
        settings: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay} | given
        if self.kind in {"adam", "adamw"}:
            settings["betas"] = (settings.pop("beta1", 0.9), settings.pop("beta2", 0.999))
        match self.kind:  # fused: one pass over all parameters per step; RMSprop has no fused version
            case "sgd":
                return torch.optim.SGD(network.parameters(), fused=True, **settings)
            case "adam":
                return torch.optim.Adam(network.parameters(), fused=True, **settings)
            case "adamw":
                return torch.optim.AdamW(network.parameters(), fused=True, **settings)
            case "rmsprop":
                return torch.optim.RMSprop(network.parameters(), foreach=True, **settings)

    def build_schedule(self, optimizer: Optimizer, total_steps: float) -> LambdaLR | None:
        """Returns the schedule, for one call per optimizer step, or None if the learning rate is constant.

        `total_steps` is infinite if training has no fixed end. Only a constant learning rate allows that.
        """
        schedule = self.schedule
        if schedule.kind == "constant" and not schedule.warmup_fraction:
            return None
        if math.isinf(total_steps):
            raise InputError("optimizer.schedule.kind", schedule.kind, "needs an end of training", "set max_epochs")
        return LambdaLR(optimizer, lambda step: schedule.factor(step, int(total_steps)))
