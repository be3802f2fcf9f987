"""Limits on what a trial may need. A trial that needs more ends as pruned, and the sampler learns by how much."""

import time
from pathlib import Path
from typing import Annotated

import psutil
import pytorch_lightning as pl
import torch
from optuna.trial import Trial
from pydantic import Field, PositiveFloat

from lightning_modules.config import section
from sweeps.errors import LimitBroken


@section("constraints")
class ConstraintsConfig:
    """The most that a trial may need; null: no limit. A trial beyond a limit counts, but is never best or a finalist.

    TPE learns from every trial beyond a limit, the Gaussian process from how near complete trials came to a limit.
    """

    parameters: Annotated[int, Field(gt=0, le=10**15, examples=[10**6])] | None = None
    """Parameters of the network. A network with more is not trained."""

    seconds: PositiveFloat | None = None
    """Seconds of training and validation, checked after every epoch."""

    memory_mb: PositiveFloat | None = None
    """Peak memory during training, in MiB: of the process, with data, or of the GPU."""


class Limits(pl.Callback):
    """Stops one trial's training at its limits, and reports each need to Optuna as the constraint need / limit - 1."""

    def __init__(self, trial: Trial, limits: ConstraintsConfig) -> None:
        self._trial = trial
        self._limits = {name: limit for name, limit in vars(limits).items() if limit is not None}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()
        self._memory = PeakMemory(pl_module.device)
        self._needs = {"parameters": float(sum(weights.numel() for weights in pl_module.parameters()))}
        if (violation := self._violation()) is not None:
            self._report()
            raise violation

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._measure()
        if self._violation() is not None:
            trainer.should_stop = True  # the epoch is still logged; then the fit ends

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._measure()
        self._report()
        if (violation := self._violation()) is not None:
            raise violation

    def _measure(self) -> None:
        self._needs |= {"seconds": time.perf_counter() - self._start, "memory_mb": self._memory.read()}

    def _violation(self) -> LimitBroken | None:
        for name, limit in self._limits.items():
            if (need := self._needs.get(name, 0.0)) > limit:
                return LimitBroken(f"constraints.{name}: {need:,.6g} is more than {limit:,}")
        return None

    def _report(self) -> None:
        for name in self._limits.keys() & self._needs.keys():
            self._trial.set_constraint(name, self._needs[name] / self._limits[name] - 1)


class PeakMemory:
    """The most memory used since this object was created, in MiB: of the GPU, or resident memory of this process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._highest = 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            self._resets = self._reset()

    def read(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        if self._resets:
            status = Path("/proc/self/status").read_text()
            (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
            return int(line.split()[1]) / 1024
        self._highest = max(self._highest, psutil.Process().memory_info().rss / 2**20)
        return self._highest

    @staticmethod
    def _reset() -> bool:
        """Resets Linux's high-water mark. On other systems, only the memory at each `read` is known."""
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return False
        return True
