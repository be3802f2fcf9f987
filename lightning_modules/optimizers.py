"""Settings of optimizers and learning-rate schedules, and the torch objects built from them.

Four optimizers and four schedules have settings of their own here. Any other class of torch.optim, and any at a dotted
path, gets its arguments from `args`.
"""

import math
from dataclasses import field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from lightning_modules.config import Decay, Share, check_settings, section
from lightning_modules.errors import InputError, choose_from
from lightning_modules.parameters import matching
from lightning_modules.plug import Plug

# The settings that each optimizer has besides lr and weight_decay.
SETTINGS: dict[str, set[str]] = {
    "sgd": {"momentum", "nesterov"},
    "adam": {"beta1", "beta2", "eps"},
    "adamw": {"beta1", "beta2", "eps"},
    "rmsprop": {"momentum", "alpha", "eps"},
}
SCHEDULES = ("constant", "cosine", "one_cycle", "step")
_OFFERED = ("params", "lr", "weight_decay")  # what any other optimizer gets if its signature names it


@section("optimizer.schedule")
class ScheduleConfig:
    """How the learning rate changes at each step of a run, as a share of `optimizer.lr`.

    Every kind first raises it linearly over `warmup_fraction` of the run's steps. Then `constant` keeps it, `cosine`
    lowers it to 0 (Loshchilov & Hutter 2017, without restarts), and `step` multiplies it by `gamma` after each
    `step_fraction` of the run. `one_cycle` (Smith & Topin 2018, with the proportions of torch's OneCycleLR and without
    its momentum cycle) raises and lowers it along cosines, from lr/25 to lr to lr/250,000.

    A dotted path names a schedule of torch or of your own, such as torch.optim.lr_scheduler.ExponentialLR. It gets the
    optimizer, `args`, and `total_steps` if its signature names it, and steps as often as `interval` says.
    """

    kind: str = "constant"
    """The shape of the schedule, or the dotted path of one of torch or of your own."""

    args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the schedule at a dotted path."""

    interval: Literal["step", "epoch"] = "step"
    """How often the schedule at a dotted path steps."""

    warmup_fraction: Annotated[float, Field(ge=0, lt=1, examples=[0.1])] | None = None
    """The share of all steps in which the learning rate rises; null: 0, or 0.3 for one_cycle."""

    step_fraction: Share = 1 / 3
    """Kind step: the share of all steps between two drops."""

    gamma: Share = 0.1
    """Kind step: the factor of each drop."""

    def __post_init__(self) -> None:
        if self.is_own:
            self.plug.check(["optimizer", "total_steps"])
            if self.warmup_fraction is not None:
                field, remedy = "optimizer.schedule.warmup_fraction", "leave it out"
                raise InputError(field, self.warmup_fraction, f"does not apply to {self.kind}", remedy)
        elif self.kind not in SCHEDULES:
            remedy = f"{choose_from(self.kind, SCHEDULES)}, or give a dotted path"
            raise InputError("optimizer.schedule.kind", self.kind, "no such schedule", remedy)
        elif self.args:
            raise InputError("optimizer.schedule.args", self.args, f"{self.kind} takes none", "leave them out")

    @property
    def is_own(self) -> bool:
        return "." in self.kind

    @property
    def plug(self) -> Plug:
        return Plug("optimizer.schedule.kind", self.kind, self.args, "optimizer.schedule.args")

    @property
    def steps_each_epoch(self) -> bool:
        """Whether the schedule steps once an epoch. ReduceLROnPlateau does so, whatever `interval` says.

        What a function makes is not known yet: see `build_schedule`.
        """
        if not self.is_own:
            return False
        target = self.plug.target
        return self.interval == "epoch" or (isinstance(target, type) and issubclass(target, ReduceLROnPlateau))

    def how_to_step(self, schedule: LRScheduler) -> dict[str, Any]:
        """Returns the schedule as Lightning takes it. One that waits for a plateau watches the loss on val."""
        if isinstance(schedule, ReduceLROnPlateau):
            return {"scheduler": schedule, "interval": "epoch", "monitor": "val/loss"}
        return {"scheduler": schedule, "interval": self.interval if self.is_own else "step"}

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
    """The optimizer. A null setting has torch's default. A setting of another kind is an error."""

    kind: str = "adam"
    """The optimizer: a class of torch.optim in small letters, or a dotted path."""

    lr: PositiveFloat = 0.001
    """The peak learning rate."""

    weight_decay: NonNegativeFloat = 0.0
    """The L2 penalty; decoupled for adamw."""

    momentum: Decay | None = None
    """Kinds sgd, rmsprop."""

    nesterov: bool | None = None
    """Kind sgd: Nesterov's momentum."""

    beta1: Decay | None = None
    """Kinds adam, adamw: decay of the mean gradient."""

    beta2: Decay | None = None
    """Kinds adam, adamw: decay of the mean squared gradient."""

    alpha: Decay | None = None
    """Kind rmsprop: decay of the mean squared gradient."""

    eps: Annotated[float, Field(gt=0, examples=[1e-8])] | None = None
    """Kinds adam, adamw, rmsprop: added to the denominator."""

    args: dict[str, Any] = field(default_factory=dict)
    """What the kind takes besides the fields here."""

    groups: list[dict[str, Any]] = field(default_factory=list)
    """Settings for some of the parameters: [{match: pattern of parameter names, lr: …}]."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        check_settings("optimizer", self, SETTINGS)
        if self.nesterov and not self.momentum:
            remedy = "set optimizer.momentum, for example 0.9"
            raise InputError("optimizer.nesterov", True, "needs momentum above 0", remedy)
        for name in sorted(self._settings().keys() & self.args.keys()):
            raise InputError(
                f"optimizer.args.{name}", self.args[name], "has a field of its own", f"set optimizer.{name}"
            )
        self._plug.check(_OFFERED)
        for index, group in enumerate(self.groups):
            if not isinstance(group.get("match"), str):
                message, remedy = "has no pattern", "write {match: 'conv.*', lr: 0.001}"
                raise InputError(f"optimizer.groups[{index}]", group, message, remedy)

    @property
    def _plug(self) -> Plug:
        return Plug("optimizer.kind", _path_of(self.kind), self.args, "optimizer.args", self.kind)

    def _settings(self) -> dict[str, Any]:
        """Returns the arguments from the fields, as torch names them."""
        names = SETTINGS.get(self.kind, ())
        settings: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        settings |= {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.kind in {"adam", "adamw"}:
            settings["betas"] = (settings.pop("beta1", 0.9), settings.pop("beta2", 0.999))
        if self.kind in SETTINGS:  # fused: one pass over all parameters per step; RMSprop has no fused version
            settings |= {"foreach": True} if self.kind == "rmsprop" else {"fused": True}
        return settings

    def build(self, network: Module) -> Optimizer:
        """Returns the optimizer for all parameters of `network` that are trained."""
        made = self._plug.make({"params": self._groups_of(network)} | self._settings())
        if not isinstance(made, Optimizer):
            remedy = "name a torch.optim.Optimizer"
            raise InputError("optimizer.kind", self.kind, f"makes {type(made).__name__}, which is no optimizer", remedy)
        if self.weight_decay and "weight_decay" not in made.defaults:
            raise InputError("optimizer.weight_decay", self.weight_decay, f"{self.kind} has none", "leave it out")
        return made

    def _groups_of(self, network: Module) -> list[Any]:
        """Returns the parameters as torch takes them. Each one is in the first group that matches its name."""
        trained = {name: weights for name, weights in network.named_parameters() if weights.requires_grad}
        if not self.groups:
            return list(trained.values())
        groups: list[Any] = []
        for index, group in enumerate(self.groups):
            names = matching(f"optimizer.groups[{index}].match", group["match"], network)
            options = {name: value for name, value in group.items() if name != "match"}
            groups.append({"params": [trained.pop(name) for name in names if name in trained], **options})
        return [{"params": list(trained.values())}, *groups]

    def build_schedule(self, optimizer: Optimizer, total_steps: float) -> LRScheduler | None:
        """Returns the schedule, or None if the learning rate is constant.

        `total_steps` is infinite if training has no fixed end. Only a constant learning rate allows that.
        Raises InputError if a function makes a ReduceLROnPlateau, which steps once an epoch, with `interval: step`.
        """
        schedule = self.schedule
        if schedule.kind == "constant" and not schedule.warmup_fraction:
            return None
        if math.isinf(total_steps):
            raise InputError("optimizer.schedule.kind", schedule.kind, "needs an end of training", "set max_epochs")
        if schedule.is_own:
            made: LRScheduler = schedule.plug.make({"optimizer": optimizer, "total_steps": int(total_steps)})
            if isinstance(made, ReduceLROnPlateau) and not schedule.steps_each_epoch:
                message = f"{schedule.kind} makes a schedule that waits for a plateau, once an epoch"
                remedy = "write optimizer.schedule.interval: epoch"
                raise InputError("optimizer.schedule.interval", schedule.interval, message, remedy)
            return made
        return LambdaLR(optimizer, lambda step: schedule.factor(step, int(total_steps)))


def _path_of(kind: str) -> str:
    """Returns the dotted path of an optimizer: names of torch.optim may be written in small letters."""
    if "." in kind:
        return kind
    known = of_torch()
    if kind.lower() not in known:
        remedy = f"{choose_from(kind, known)}, or give a dotted path"
        raise InputError("optimizer.kind", kind, "no such optimizer", remedy)
    return f"torch.optim.{known[kind.lower()]}"


def of_torch() -> dict[str, str]:
    """Returns the name of each class of torch.optim, by how a recipe writes it."""
    return {name.lower(): name for name, each in vars(torch.optim).items() if _is_optimizer(each)}


def _is_optimizer(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer
