"""Takes the optimizer steps of a chunk without the host: a step is recorded once, and the device repeats it.

With a small network, a GPU needs less time for the kernels of a step than the host needs to launch them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.log import say_once
from lightning_modules.stepping.chunked import Chunked
from lightning_modules.stepping.chunks import Chunk
from lightning_modules.stepping.device_optimizer import DeviceOptimizer, settings_of, why_not_captured
from lightning_modules.stepping.replay import Replay, replay_on
from lightning_modules.stepping.snapshot import Snapshot, attributes, random_state_beside
from lightning_modules.stepping.static_step import LossOf, Results, StaticStep
from lightning_modules.stepping.steps import add_steps_done
from lightning_modules.stepping.stretch import Stretch

_TRIED = 3  # steps before a capture; torch recommends as many
# How far the repeated steps that are tried may be from eager ones. Their sums may have another order, which Adam
# amplifies where a gradient is almost 0; a step that has lost its rate, its batch or its update is far beyond.
_LOSS, _CHANGE = 1e-3, 0.25


class CannotCaptureError(RuntimeError):
    """Says why a step cannot be recorded."""


@dataclass(frozen=True)
class _Recorded:
    """`training`: what the step takes for granted."""

    step: StaticStep
    replay: Replay
    training: Any


class Captured:
    """`loss_of`: the loss of a batch and its logits, without any effect. `collect` receives the results of steps.

    `plain` takes the steps that make the optimizer's state, such as the first one, and all of them if they cannot be
    recorded; this is said once, and `otherwise` is called. `compiles`: whether torch.compile makes the recorded step
    faster. `replay_on` returns what repeats a step on a device.
    """

    def __init__(
        self,
        loss_of: LossOf,
        plain: Chunked,
        collect: Callable[[Results], None],
        *,
        keeps_logits: bool = False,
        compiles: bool = False,
        otherwise: Callable[[], None] = lambda: None,
        replay_on: Callable[[torch.device], Replay] = replay_on,
    ) -> None:
        self._loss_of, self._plain, self._collect = loss_of, plain, collect
        self._keeps_logits, self._compiles, self._replay_on = keeps_logits, compiles, replay_on
        self._otherwise = otherwise
        self._recorded: _Recorded | None = None
        self._has_begun = False  # whether a step has made the optimizer's state, if it has any
        self.why_not: str | None = None  # why no step is recorded

    def run(self, module: pl.LightningModule, chunk: Chunk) -> None:
        """Takes a step for each batch of the chunk's stretches."""
        optimizer: Any = module.optimizers(use_pl_optimizer=False)
        if self._recorded is not None and self._recorded.training != _training(module, optimizer):
            self._forget()  # a callback has changed what is trained, or how
        for stretch in chunk:
            self._run(module, optimizer, stretch)

    def end(self) -> None:
        """Frees what is kept for the steps. Call it when a training has ended: the next one records its own step."""
        self._forget()
        self.why_not = None
        if self._compiles:  # torch compiles the same function only for so many trainings of a process
            torch.compiler.reset()

    def saved(self, states: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the optimizers' states of a checkpoint as step by step training has them."""
        if self._recorded is None:
            return list(states)
        return [self._recorded.step.optimizer.saved(state) for state in states]

    def _run(self, module: pl.LightningModule, optimizer: Optimizer, stretch: Stretch) -> None:
        rest: Stretch | None = stretch
        if self._recorded is None and self.why_not is None:
            if not (self._has_begun or _has_state(optimizer)):
                rest = self._first(module, stretch)
            if rest is not None and rest.whole:
                self._record(module, optimizer, rest)
        while rest is not None:
            if self._recorded is None:
                self._plain.run(module, rest.batches())
                return
            rest = self._repeat(module, rest, self._recorded)

    def _first(self, module: pl.LightningModule, stretch: Stretch) -> Stretch | None:
        """Takes a step that makes the optimizer's state, and returns what is left."""
        first, rest = stretch.divided(1)
        self._plain.run(module, first.batches())
        self._has_begun = True
        return rest

    def _repeat(self, module: pl.LightningModule, stretch: Stretch, recorded: _Recorded) -> Stretch | None:
        """Takes the steps of the stretch's whole batches, then that of a short one; returns what it cannot take."""
        if not recorded.step.fits(stretch) and stretch.whole:
            self._give_up("the shape of the images changes")
            return stretch
        rates_TG = list(self._rates(module, recorded, max(1, stretch.whole)))
        if not rates_TG:
            self._give_up("the schedule changes more than the learning rate")
            return stretch
        taken, rest = stretch.divided(len(rates_TG))
        if taken.whole:
            recorded.step.load(taken, rates_TG)
            recorded.replay.run(len(rates_TG))
            self._collect(recorded.step.results(len(rates_TG)))
        else:
            self._collect(recorded.step.take_short(taken.images_NHWC, taken.labels_N, rates_TG[0]))
        add_steps_done(module.trainer, len(rates_TG))
        return rest

    def _rates(self, module: pl.LightningModule, recorded: _Recorded, steps: int) -> Iterator[list[float]]:
        """Yields the rates of the groups for the next steps, and steps the schedule; stops if it changes more."""
        optimizer = recorded.step.optimizer
        schedule: Any = module.lr_schedulers()
        for _ in range(steps):
            if optimizer.has_changed:
                return
            yield optimizer.rates_G
            if schedule is not None:
                schedule.step()

    def _record(self, module: pl.LightningModule, optimizer: Optimizer, stretch: Stretch) -> None:
        """Records a step, or gives up."""
        why_not = why_not_captured(optimizer)
        if why_not is None and self._compiles:
            why_not_compiled = self._try_to_record(module, optimizer, stretch, compiles=True)
            if why_not_compiled is not None:
                say_once(f"the captured step is not compiled: {why_not_compiled}")
        if why_not is None and self._recorded is None:
            why_not = self._try_to_record(module, optimizer, stretch, compiles=False)
        if why_not is not None:
            self._give_up(why_not)

    def _try_to_record(
        self, module: pl.LightningModule, optimizer: Optimizer, stretch: Stretch, *, compiles: bool
    ) -> str | None:
        """Tries a step, records it, and checks that the record does the same. Nothing of this changes the training.

        Returns why the step is not recorded.
        """
        before = Snapshot(module, optimizer)
        on_device = DeviceOptimizer(optimizer, stretch.labels_N.device, stretch.most)
        plain_loss_of = _with_normalization(self._loss_of, stretch)
        loss_of = torch.compile(plain_loss_of, dynamic=False) if compiles else plain_loss_of
        try:
            step = StaticStep(
                loss_of, plain_loss_of, on_device, self._plain.clip, stretch, keeps_logits=self._keeps_logits
            )
            replay = self._replay_on(stretch.labels_N.device)
            _record_and_check(step, replay, stretch, before)
            self._recorded = _Recorded(step, replay, _training(module, optimizer))
        except Exception as error:  # the network is the user's, and a capture can fail in many ways
            return _reason(error)
        finally:
            before.restore()
            if self._recorded is None:
                on_device.release()
        return None

    def _give_up(self, reason: str) -> None:
        self._forget()
        self.why_not = reason
        say_once(f"the host launches each step's kernels: {reason}")
        self._otherwise()

    def _forget(self) -> None:
        self._has_begun = False  # what is trained next may lack its state
        if self._recorded is not None:
            self._recorded.step.optimizer.release()
            self._recorded.step.optimizer.optimizer.zero_grad(set_to_none=True)
            self._recorded = None


def _record_and_check(step: StaticStep, replay: Replay, stretch: Stretch, before: Snapshot) -> None:
    """Raises CannotCaptureError if the recorded step does not do what the eager one does."""
    tried, _ = stretch.divided(min(_TRIED, stretch.whole))
    step.load(tried, [step.optimizer.rates_G] * len(tried))
    device = stretch.labels_N.device
    drawn = random_state_beside(device)
    with replay.trying(may_wait=True):  # the first steps choose algorithms, or compile
        for _ in range(len(tried)):
            step()
    if random_state_beside(device) != drawn:
        raise CannotCaptureError("a training step draws random numbers on the host")
    if (reason := before.why_not_repeatable()) is not None:
        raise CannotCaptureError(reason)
    before.restore()
    step.restart()
    with replay.trying(may_wait=False):
        for _ in range(len(tried)):
            step()
    eager = _outcome(step, before, len(tried))
    before.restore()
    step.restart()
    replay.record(step)
    before.restore()  # an eager stand-in has run it, perhaps
    step.restart()
    replay.run(len(tried))
    repeated = _outcome(step, before, len(tried))
    if not _agree(eager, repeated, before.parameter_values):
        raise CannotCaptureError("the captured step gives other numbers than the step itself")


def _outcome(step: StaticStep, before: Snapshot, steps: int) -> tuple[Tensor, list[Tensor]]:
    """Returns copies of the losses and of the parameters."""
    return step.results(steps).losses_T.clone(), [parameter.detach().clone() for parameter in before.parameters]


def _agree(eager: tuple[Tensor, list[Tensor]], repeated: tuple[Tensor, list[Tensor]], start: Sequence[Tensor]) -> bool:
    if not torch.allclose(eager[0], repeated[0], rtol=_LOSS, atol=1e-6, equal_nan=True):
        return False
    apart, change = _norm(eager[1], repeated[1]), _norm(eager[1], start)
    return not change.isfinite() or bool(apart <= _CHANGE * change)


def _reason(error: Exception) -> str:
    """Returns the first line of an error, with the next one if it only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _norm(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Returns the Euclidean norm of the difference."""
    squares = [(a.double() - b.double()).square().sum() for a, b in zip(one, other, strict=True)]
    return torch.stack(squares).sum().sqrt()


def _with_normalization(loss_of: LossOf, stretch: Stretch) -> LossOf:
    ready = stretch.ready
    return lambda images_NHWC, labels_N: loss_of(ready(images_NHWC), labels_N)


def _has_state(optimizer: Optimizer) -> bool:
    """Whether each parameter that is trained has its state, as in a training that is resumed."""
    parameters = (each for group in optimizer.param_groups for each in group["params"])
    return all(each in optimizer.state for each in parameters if each.requires_grad)


def _training(module: pl.LightningModule, optimizer: Optimizer) -> Any:
    """Returns what a recorded step takes for granted: which tensors it reads and trains, and by which settings."""
    tensors = [(id(each), each.data_ptr(), each.requires_grad) for each in chain(module.parameters(), module.buffers())]
    return id(optimizer), settings_of(optimizer), tensors, attributes(module)
