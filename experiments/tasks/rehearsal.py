"""Tries a run's parts on real images before the run exists, so that what cannot work is refused at once.

A second network takes a training step and answers a few images. It is then thrown away, and the random state is put
back: the run is, bit by bit, what it would have been without.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from experiments.config import ExperimentConfig, flatten
from experiments.errors import OutOfMemoryError
from experiments.results.model import trace
from experiments.training.devices import wait_for
from experiments.training.memory import explain_out_of_memory, is_out_of_memory
from experiments.training.random_state import get_random_state, set_random_state
from lightning_modules import ImageClassifier, ImageDataModule, InputError, ModelConfig
from lightning_modules.log import LOG
from lightning_modules.losses import mean_loss
from lightning_modules.metrics import Answers

# Shapes: N images, C channels, H x W pixels, K classes.
Batch = tuple[Tensor, Tensor]

_NUMBERS = {"experiment", "seed", "trainer.max_epochs"}
_LONGEST = 300  # characters of an error's text that are shown
_MOST = 512  # images of a batch that is tried: more would only take longer
# Seconds of steps with several threads, and with one: a glance, then a look if several threads seem slower. Other
# programs get a core for some milliseconds at a time, so both numbers of threads get several turns.
_GLANCE, _LOOK, _TURNS = 0.05, 0.5, 3
_SUSPICIOUS, _WORTH_A_WORD = 1.1, 1.5  # how many times as long a step takes with several threads


_found: dict[str, "Findings"] = {}  # by what was tried in this process


@dataclass(frozen=True)
class Findings:
    """What the rehearsal found out about the network."""

    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    drops_single: bool = False  # a last training batch of one image must be left out: batch norm needs more
    step_seconds: float = math.inf  # that a training step took


def rehearse(
    config: ExperimentConfig, data: ImageDataModule, trainer: pl.Trainer, *, logs_model: bool = False
) -> Findings:
    """Tries the network, loss, optimizer and metrics of `config` on images of the train split.

    Raises InputError if one of them fails. If the run `logs_model`, says what a network of the user's own, which
    torch.export cannot trace, is kept as. `trainer` says on which device and with which precision the run trains. In
    one process, configurations that differ only in seed and numbers such as the learning rate are tried once.
    """
    tried = repr((data.dataset.sha256, logs_model, structure(config)))
    if tried not in _found:
        state = get_random_state()
        try:
            with redirect_stdout(StringIO()), explain_out_of_memory(config), trainer.precision_plugin.forward_context():
                _found[tried] = _rehearse(config, data, trainer, logs_model)
        except OutOfMemoryError:  # the run itself will fail, and keep the record of it
            return Findings()
        finally:
            set_random_state(state)
    return _found[tried]


def structure(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the fields that decide whether the parts work: all but those that hold a number to be tuned."""
    fields = flatten(config.tree()).items()
    return {name: value for name, value in fields if name not in _NUMBERS and not isinstance(value, float)}


def _rehearse(config: ExperimentConfig, data: ImageDataModule, trainer: pl.Trainer, logs_model: bool) -> Findings:
    device = trainer.strategy.root_device
    images_NCHW, labels_N = next(iter(data.train_dataloader()))
    batch = (trainer.precision_plugin.convert_input(images_NCHW[:_MOST].to(device)), labels_N[:_MOST].to(device))
    network = trainer.precision_plugin.convert_module(config.model.build(data.image_shape, data.num_classes)).to(device)
    memory_format = _memory_format(network, batch[0], config.model.memory_format)
    class_weights = config.model.weigh_classes(data.splits["train"].targets)
    classifier = ImageClassifier(
        network,
        loss=config.model.build_loss(data.num_classes),
        class_weights=class_weights,
        optimizer=config.optimizer,
        memory_format=memory_format,
    ).to(device)
    trial = _Trial(config, classifier, data.num_classes)
    optimizer = config.optimizer.build(network)
    config.optimizer.build_schedule(optimizer, trainer.max_epochs or 1)
    trial.step(batch, optimizer, is_first=True)
    last = len(data.splits["train"]) % len(labels_N)
    wait_for(device)
    start = time.perf_counter()
    trial.step(batch, optimizer)
    wait_for(device)
    step_seconds = time.perf_counter() - start
    drops_single = 0 < last < 2 * config.trainer.processes and trial.needs_more_than_one(batch)
    if last > 1 and not drops_single:
        trial.step((batch[0][:last], batch[1][:last]), optimizer)
    trial.evaluate(batch)
    if logs_model and "." in config.model.network:  # those of the workbench can be traced
        _warn_of_export(network, data)
    _warn_of_threads(lambda: trial.step(batch, optimizer))
    return Findings(memory_format, drops_single, step_seconds)


def _memory_format(
    network: nn.Module, images_NCHW: Tensor, wanted: Literal["auto", "channels_last", "contiguous"]
) -> Literal["channels_last", "contiguous"]:
    """Chooses contiguous where the network fails with channels_last, as one that calls `view` does."""
    if wanted != "auto":
        return wanted

    def accepts(layout: torch.memory_format) -> bool:
        try:
            with torch.no_grad():
                network.to(memory_format=layout)(images_NCHW.contiguous(memory_format=layout))  # type: ignore[call-overload]
        except Exception:  # the user's code may raise any exception
            return False
        return True

    if accepts(torch.channels_last) or not accepts(torch.contiguous_format):
        return "channels_last"  # if it accepts neither, the first step says why
    return "contiguous"


@dataclass(frozen=True)
class _Trial:
    """The network that is tried, in its LightningModule."""

    config: ExperimentConfig
    classifier: ImageClassifier
    num_classes: int

    def step(self, batch: Batch, optimizer: torch.optim.Optimizer, *, is_first: bool = False) -> None:
        """Takes one training step. After the first one, a high learning rate may let the loss diverge."""
        model, (images_NCHW, labels_N) = self.config.model, batch
        optimizer.zero_grad()
        logits_NK = self._answer(images_NCHW)
        with _refused("model.loss", model.loss, "change model.loss_args, or the loss"):
            loss = mean_loss(self.classifier.loss, logits_NK, labels_N, self.classifier.class_weights)
        if is_first and not torch.isfinite(loss):
            remedy = "look for a division by zero or a logarithm in the network and the loss"
            raise InputError("model.network", model.network, f"the loss of the first batch is {loss:g}", remedy)
        with _refused("model.network", model.network, "its gradient cannot be computed"):
            loss.backward()  # type: ignore[no-untyped-call]
        with _refused("optimizer.kind", self.config.optimizer.kind, "choose another, or change optimizer.args"):
            optimizer.step(lambda: float(loss.detach()))

    def evaluate(self, batch: Batch) -> None:
        """Answers two images and one, as a logged model must, and computes the user's own metrics."""
        self.classifier.eval()
        images_NCHW, labels_N = batch
        with torch.no_grad():
            for count in (1, 2):
                self._answer(images_NCHW[:count])
            answers = Answers(self._answer(images_NCHW), labels_N)
        for index, metric in enumerate(self.config.trainer.own_metrics()):
            with _refused(f"trainer.metrics[{index}]", metric.name, "change its args, or the metric"):
                metric.compute(answers)
        self.classifier.train()

    def needs_more_than_one(self, batch: Batch) -> bool:
        """Whether batch norm refuses a training batch of one image."""
        try:
            self.classifier(batch[0][:1])
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            LOG.warning("the last training batch has one image, and batch norm needs more: it is left out")
            return True
        return False

    def _answer(self, images_NCHW: Tensor) -> Tensor:
        name = self.config.model.network
        try:
            logits_NK: Any = self.classifier(images_NCHW)
        except Exception as error:  # the user's code may raise any exception
            if is_out_of_memory(error):
                raise
            raise _explained(self.config.model, self.classifier, images_NCHW, error) from error
        wanted = (len(images_NCHW), self.num_classes)
        if not isinstance(logits_NK, Tensor):
            raise InputError(
                "model.network", name, f"answers with {type(logits_NK).__name__}", "return a tensor of logits"
            )
        if tuple(logits_NK.shape) != wanted:
            message = f"answers {len(images_NCHW)} images with shape {tuple(logits_NK.shape)}, not {wanted}"
            remedy = f"it needs one logit for each of the {self.num_classes} classes"
            raise InputError("model.network", name, message, remedy)
        return logits_NK


@contextmanager
def _refused(field: str, value: str, remedy: str) -> Iterator[None]:
    """Turns any error of the user's code into an InputError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(field, value, f"fails on a batch of the data: {reason}", remedy) from error


def _explained(config: ModelConfig, classifier: ImageClassifier, images_NCHW: Tensor, error: Exception) -> InputError:
    """Returns the network's error as an InputError that names the layer, what it got and what it wants."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
    path, layer, given = _failing_layer(classifier, images_NCHW)
    where = f"layer {path} ({type(layer).__name__})" if path else type(layer).__name__
    got = f" got {tuple(given.shape)}" if isinstance(given, Tensor) else ""
    wanted, remedy = _wants(layer, given)
    return InputError("model.network", config.network, f"{where}{got}{wanted}: {reason}", remedy)


def _failing_layer(classifier: ImageClassifier, images_NCHW: Tensor) -> tuple[str, nn.Module, Any]:
    """Runs the network once more, and returns the innermost layer that raises an error, with its path and its input."""
    network = getattr(classifier.network, "_orig_mod", classifier.network)  # of a compiled one
    entered: list[tuple[str, nn.Module, Any]] = []

    def enter(path: str) -> Callable[[nn.Module, Any], None]:
        return lambda layer, inputs: entered.append((path, layer, inputs[0] if inputs else None))

    def leave(*_: object) -> None:
        entered.pop()

    for path, layer in network.named_modules():  # this network is thrown away: nobody misses what the hooks cost
        layer.register_forward_pre_hook(enter(path))
        layer.register_forward_hook(leave)
    with suppress(Exception):
        network(images_NCHW)
    return entered[-1] if entered else ("", network, None)


def _wants(layer: nn.Module, given: Any) -> tuple[str, str]:
    """Returns the shape that a layer wants, and the remedy."""
    remedy = "change the network or its arguments, or the shape of the images (data.channels, data.image_size)"
    match layer:
        case nn.Conv2d():
            if isinstance(given, Tensor) and given.dim() == 4 and {given.shape[1], layer.in_channels} <= {1, 3}:
                remedy = f"set data.channels to {layer.in_channels}, or change the network"
            return f", wants (N, {layer.in_channels}, H, W)", remedy
        case nn.Linear():
            return f", wants (…, {layer.in_features})", remedy
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return f", wants {layer.num_features} channels", remedy
    return "", remedy


def _warn_of_export(network: nn.Module, data: ImageDataModule) -> None:
    try:
        trace(network, data)
    except Exception as error:  # torch.export and the user's code raise many kinds
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        LOG.warning(f"torch.export cannot trace the network ({reason}): its weights and source files will be kept")


def _warn_of_threads(step: Callable[[], None]) -> None:
    """Says so if several threads train slower than one, as they do where other programs use the cores.

    The number of threads never changes by itself, because the numbers depend on it.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return
    try:
        slower = _slowdown(step, threads, _GLANCE)
        if slower > _SUSPICIOUS:
            slower = _slowdown(step, threads, _LOOK)
    finally:
        torch.set_num_threads(threads)
    if slower > _WORTH_A_WORD:
        LOG.warning(
            f"{threads} threads take {slower:.1f} times as long as one: other programs use the cores; "
            "--trainer.threads 1 is faster now (it changes the numbers in their last digits)"
        )


def _slowdown(step: Callable[[], None], threads: int, seconds: float) -> float:
    """Returns how many times as long a step takes with `threads` threads as with one, in several turns each."""
    spent, steps = {threads: 0.0, 1: 0.0}, {threads: 0, 1: 0}
    for _ in range(_TURNS):
        for count in (threads, 1):
            torch.set_num_threads(count)
            start = time.perf_counter()
            while (now := time.perf_counter()) - start < seconds / _TURNS or now == start:
                step()
                steps[count] += 1
            spent[count] += now - start
    return (spent[threads] / steps[threads]) / (spent[1] / steps[1])
