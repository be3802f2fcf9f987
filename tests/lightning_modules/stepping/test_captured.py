"""Captured steps. Where there is no GPU, a stand-in repeats them eagerly: all but the CUDA graph itself is the same."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lightning_modules import DataConfig, ImageClassifier, ImageDataModule, OptimizerConfig
from lightning_modules.log import say_once
from lightning_modules.metrics import Metric, own_metrics
from lightning_modules.optimizers import ScheduleConfig
from lightning_modules.pipeline.augmentation import AugmentationConfig
from lightning_modules.stepping.captured import Captured
from lightning_modules.stepping.clipping import clipping
from lightning_modules.stepping.device_optimizer import DeviceOptimizer
from lightning_modules.stepping.replay import Eagerly, Step

EPOCHS = 3
DATA = DataConfig(batch_size=100, augmentation=AugmentationConfig(shift=1, noise=1))  # 1,294 images: 12 batches and 94
HAS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Network(torch.nn.Sequential):
    """A network that draws from torch's random state, and has buffers that change at each step."""

    def __init__(self) -> None:
        layers = (torch.nn.Linear(64, 32, bias=False), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Dropout(0.3))
        super().__init__(torch.nn.Flatten(), *layers, torch.nn.Linear(32, 10))


class Recorder(pl.Callback):
    """Remembers step, learning rate and scores on val after each epoch, and saves a checkpoint there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[tuple[int, float, dict[str, float]]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.seen.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"], scores))
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch + 1}.ckpt")


class Trained:
    """A training: `steps` in one execution; 1: step by step."""

    def __init__(
        self,
        folder: Path,
        steps: int,
        *,
        network: Callable[[], torch.nn.Module] = Network,
        data: DataConfig = DATA,
        resume: Path | None = None,
        replay: Callable[[torch.device], Any] | None = None,
        compiles: bool = False,
        metrics: tuple[Metric, ...] = (),
        accelerator: str = "cpu",
        callbacks: tuple[pl.Callback, ...] = (),
        epochs: int = EPOCHS,
        **optimizer: Any,
    ) -> None:
        pl.seed_everything(0, verbose=False)
        images = ImageDataModule(data)
        settings = {"lr": 0.01, "schedule": ScheduleConfig(kind="one_cycle"), **optimizer}
        self.classifier = ImageClassifier(network(), optimizer=OptimizerConfig(**settings), metrics=metrics)
        limits: dict[str, Any] = {"gradient_clip_val": 0.1}
        if steps > 1:
            images.steps_per_execution, images.in_stretches, limits = steps, True, {}
            self.classifier.train_captured(clipping(0.1, "norm"), compiles=compiles)
            if replay is not None:
                self.execution._replay_on = replay
        folder.mkdir(exist_ok=True)
        recorder = Recorder(folder)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0}
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator=accelerator,
            devices=1,
            callbacks=[recorder, *callbacks],
            **quiet,
            **limits,
        )
        if resume is not None:
            torch.manual_seed(1)
        trainer.fit(self.classifier, images, ckpt_path=resume, weights_only=True)
        self.scores = {name: float(value) for name, value in trainer.callback_metrics.items()}  # of the last epoch
        self.seen, self.random = recorder.seen, torch.get_rng_state()
        self.weights = {name: value.cpu() for name, value in self.classifier.state_dict().items()}
        self.optimizer = trainer.optimizers[0].state_dict()

    @property
    def execution(self) -> Captured:
        assert isinstance(self.classifier._execution, Captured)
        return self.classifier._execution

    def assert_same(self, other: "Trained") -> None:
        assert (self.seen, self.scores) == (other.seen, other.scores)
        for name, value in self.weights.items():
            assert torch.equal(other.weights[name], value), name
        assert torch.equal(self.random, other.random)


class Spied(Eagerly):
    """Counts how often the step is repeated, apart from the check of the record."""

    made: ClassVar[list["Spied"]] = []

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.times: list[int] = []
        self.made.append(self)

    def run(self, times: int) -> None:
        self.times.append(times)
        super().run(times)


class Fails(Eagerly):
    def __init__(self, device: torch.device) -> None:
        super().__init__()

    def record(self, step: Step) -> None:
        step()
        raise RuntimeError("operation not permitted when stream is capturing\nwith more lines")


class Forgets(Eagerly):
    """Repeats another step than the one that was recorded: one without a gradient."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()

    def run(self, times: int) -> None:
        assert self._step is not None
        with torch.no_grad():
            for _ in range(times):
                self._step.optimizer._rates_1G.zero_()  # type: ignore[attr-defined]


class Waits(Eagerly):
    def __init__(self, device: torch.device) -> None:
        super().__init__()

    def trying(self, *, may_wait: bool) -> AbstractContextManager[None]:
        if not may_wait:
            raise RuntimeError("called a synchronizing CUDA operation")
        return super().trying(may_wait=may_wait)


OPTIMIZERS = [
    {"kind": "sgd", "momentum": 0.9},
    {"kind": "adam"},
    {"kind": "adamw", "weight_decay": 0.1},
    {"kind": "rmsprop"},
    {"kind": "nadam"},
]


@pytest.mark.parametrize(("settings", "steps"), list(zip(OPTIMIZERS, (2, 5, 64, 13, 3), strict=True)))
def test_repeated_steps_change_no_bit(settings: dict[str, Any], steps: int, tmp_path: Path) -> None:
    """With dropout, batch norm, clipping, augmentation, a schedule, and a short last batch."""
    one = Trained(tmp_path / "one", 1, **settings)
    Spied.made.clear()
    many = Trained(tmp_path / "many", steps, replay=Spied, **settings)
    many.assert_same(one)
    assert [step for step, *_ in many.seen] == [13, 26, 39]
    assert many.optimizer["param_groups"] == one.optimizer["param_groups"]
    (spied,) = Spied.made
    assert sum(spied.times) - spied.times[0] == 3 * 12 - 1  # all but the very first step, and the short ones


@pytest.mark.parametrize(("before", "after"), [(1, 5), (5, 1), (64, 2)])
def test_training_resumes_in_another_way(before: int, after: int, tmp_path: Path) -> None:
    whole = Trained(tmp_path / "whole", before)
    resumed = Trained(tmp_path / "later", after, resume=tmp_path / "whole" / "1.ckpt")
    again = Trained(tmp_path / "again", 1, resume=tmp_path / "whole" / "1.ckpt")
    resumed.assert_same(again)
    assert [step for step, *_ in resumed.seen] == [step for step, *_ in whole.seen[1:]]


@pytest.mark.parametrize(
    ("replay", "reason"),
    [
        (Fails, "operation not permitted when stream is capturing"),
        (Forgets, "the captured step gives other numbers than the step itself"),
        (Waits, "called a synchronizing CUDA operation"),
    ],
)
def test_what_cannot_be_captured_is_trained_as_before(
    replay: Callable[[torch.device], Any], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    say_once.cache_clear()
    one = Trained(tmp_path / "one", 1)
    with caplog.at_level(logging.INFO):
        many = Trained(tmp_path / "many", 5, replay=replay)
    many.assert_same(one)
    assert [record.message for record in caplog.records] == [f"the host launches each step's kernels: {reason}"]


def test_what_cannot_be_compiled_is_captured_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("backend='inductor' raised:\nno compiler is found\nand more")

    say_once.cache_clear()
    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)
    Spied.made.clear()
    with caplog.at_level(logging.INFO):
        many = Trained(tmp_path / "many", 5, replay=Spied, compiles=True)
        Trained(tmp_path / "lbfgs", 5, replay=Spied, compiles=True, kind="lbfgs")
    many.assert_same(Trained(tmp_path / "one", 1))
    assert [bool(spied.times) for spied in Spied.made] == [False, True]
    assert [record.message for record in caplog.records] == [
        "the captured step is not compiled: backend='inductor' raised: no compiler is found",
        "the host launches each step's kernels: the optimizer LBFGS cannot be captured",
    ]


class OnHost(torch.nn.Module):
    """A network that draws from NumPy's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layer(images.flatten(1) * (1 + 0.1 * np.random.rand()))
        return answer


class Late(Network):
    """A network that trains a parameter from its second call on."""

    def __init__(self) -> None:
        super().__init__()
        self.late = torch.nn.Parameter(torch.zeros(10))
        self.is_late = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = super().forward(images)
        answer = answer + self.late if self.is_late else answer
        self.is_late = True
        return answer


class Counts(Network):
    """A network that answers by the number of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        answer: torch.Tensor = super().forward(images * (1 + 1 / self.calls))
        return answer


class Recenters(Network):
    """A network that replaces its buffer at each step."""

    center: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.center = 0.9 * self.center + 0.1 * images.mean()
        answer: torch.Tensor = super().forward(images - self.center)
        return answer


class Watch(pl.Callback):
    """Notes why no step was recorded."""

    reason: str | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.reason = pl_module.why_not_captured


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"network": OnHost}, "a training step draws random numbers on the host"),
        ({"network": Late}, "a step adds to the optimizer's state"),
        ({"network": Recenters}, "a step replaces the buffer center"),
        ({"network": Counts}, "a step changes the attribute calls"),
        ({"kind": "lbfgs"}, "the optimizer LBFGS cannot be captured"),
        (
            {
                "kind": "adam",
                "schedule": ScheduleConfig(
                    kind="torch.optim.lr_scheduler.OneCycleLR", args={"max_lr": 0.01, "total_steps": 39}
                ),
            },
            "the schedule changes more than the learning rate",
        ),
    ],
)
def test_these_are_not_captured(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    watch = Watch()
    many = Trained(tmp_path / "many", 5, callbacks=(watch,), **options)
    many.assert_same(Trained(tmp_path / "one", 1, **options))
    assert watch.reason == reason


class Thaws(pl.Callback):
    """Trains the last layer alone in the first epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.network[1].requires_grad_(trainer.current_epoch > 0)


class Changes(pl.Callback):
    """Changes an attribute of a layer after the first epoch."""

    def __init__(self, layer: int, attribute: str, value: Any) -> None:
        self.layer, self.attribute, self.value = layer, attribute, value

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            setattr(pl_module.network[self.layer], self.attribute, deepcopy(self.value))


class Decays(pl.Callback):
    """Changes the optimizer's weight decay after the first epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            trainer.optimizers[0].param_groups[0]["weight_decay"] = 0.5


@pytest.mark.parametrize(
    ("make", "uncaptured"),
    [
        (Thaws, 1),  # this step makes the optimizer's state of the parameters that are new to it
        (Decays, 0),
        (partial(Changes, 4, "p", 0.6), 0),
        (partial(Changes, 2, "momentum", 0.5), 0),
        (partial(Changes, 2, "running_mean", torch.ones(32)), 0),
    ],
    ids=["thaws", "weight decay", "dropout", "momentum of batch norm", "a buffer"],
)
def test_a_callback_that_changes_what_is_trained_or_how_makes_a_new_record(
    make: Callable[[], pl.Callback], uncaptured: int, tmp_path: Path
) -> None:
    Spied.made.clear()
    watch = Watch()
    many = Trained(tmp_path / "many", 5, replay=Spied, callbacks=(make(), watch))
    many.assert_same(Trained(tmp_path / "one", 1, callbacks=(make(),)))
    assert watch.reason is None
    _, second = Spied.made
    assert sum(second.times) - second.times[0] == 2 * 12 - uncaptured


def test_own_metrics_get_the_answers_of_all_batches(tmp_path: Path) -> None:
    metrics = tuple(own_metrics([{"kind": "tests.own_parts.share_of", "name": "share"}]))
    many = Trained(tmp_path / "many", 5, metrics=metrics)
    many.assert_same(Trained(tmp_path / "one", 1, metrics=metrics))
    assert "train/share" in many.scores


def test_step_by_step_training_can_read_what_a_gpu_has_saved() -> None:
    """A counter that torch keeps on the host goes there in a checkpoint; on the CPU it never leaves it."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.grad = torch.ones(2)
    optimizer.step()
    on_device = DeviceOptimizer(optimizer, torch.device("cpu"), 4)
    saved = on_device.saved(optimizer.state_dict())
    assert saved["param_groups"][0]["lr"] == 0.1
    assert saved["state"][0]["step"].device.type == "cpu"


@HAS_GPU
@pytest.mark.filterwarnings("ignore")  # such as what torch recommends for this GPU
@pytest.mark.parametrize("settings", OPTIMIZERS)
def test_on_a_gpu_captured_steps_agree_with_single_ones(settings: dict[str, Any], tmp_path: Path) -> None:
    """Over 20 steps: one epoch of 21 batches."""
    options: dict[str, Any] = {
        "accelerator": "cuda",
        "epochs": 1,
        "data": DataConfig(batch_size=62),
        "lr": 1e-3,
        **settings,
    }
    one = Trained(tmp_path / "one", 1, **options)
    watch = Watch()
    many = Trained(tmp_path / "many", 64, callbacks=(watch,), **options)
    assert watch.reason is None
    assert many.scores["train/loss"] == pytest.approx(one.scores["train/loss"], rel=1e-5)


@HAS_GPU
@pytest.mark.filterwarnings("ignore")  # such as what torch recommends for this GPU
def test_on_a_gpu_captured_steps_repeat_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (Trained(tmp_path / name, 64, accelerator="cuda") for name in ("first", "second"))
    finally:
        torch.use_deterministic_algorithms(False)
    second.assert_same(first)


@HAS_GPU
@pytest.mark.filterwarnings("ignore")  # such as what torch recommends for this GPU
@pytest.mark.parametrize(("before", "after"), [(1, 64), (64, 1)])
def test_on_a_gpu_training_resumes_in_another_way(before: int, after: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"accelerator": "cuda", "data": DataConfig(batch_size=100)}
    Trained(tmp_path / "whole", before, **options)
    checkpoint = tmp_path / "whole" / "1.ckpt"
    resumed = Trained(tmp_path / "later", after, resume=checkpoint, **options)
    again = Trained(tmp_path / "again", before, resume=checkpoint, **options)
    assert [(step, rate) for step, rate, _ in resumed.seen] == [(step, rate) for step, rate, _ in again.seen]
    assert resumed.scores["train/loss"] == pytest.approx(again.scores["train/loss"], rel=1e-3)


class Syncs(Network):
    """A network whose host waits for the device at each step."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = super().forward(images * (1 if float(images.sum()) > 0 else 2))
        return answer


@HAS_GPU
@pytest.mark.filterwarnings("ignore")  # such as what torch recommends for this GPU
def test_on_a_gpu_a_network_that_makes_the_host_wait_is_trained_uncaptured(tmp_path: Path) -> None:
    options: dict[str, Any] = {"accelerator": "cuda", "network": Syncs}
    watch = Watch()
    many = Trained(tmp_path / "many", 5, callbacks=(watch,), **options)
    assert watch.reason is not None
    one = Trained(tmp_path / "one", 1, **options)
    assert many.scores["train/loss"] == pytest.approx(one.scores["train/loss"], rel=1e-3)


@HAS_GPU
@pytest.mark.filterwarnings("ignore")  # such as what torch recommends for this GPU
@pytest.mark.parametrize("make", [Thaws, Decays, partial(Changes, 4, "p", 0.0)])
def test_on_a_gpu_a_new_record_is_of_the_changed_training(make: Callable[[], pl.Callback], tmp_path: Path) -> None:
    options: dict[str, Any] = {"accelerator": "cuda", "lr": 1e-3}
    watch = Watch()
    many = Trained(tmp_path / "many", 64, callbacks=(make(), watch), **options)
    assert watch.reason is None
    one = Trained(tmp_path / "one", 1, callbacks=(make(),), **options)
    assert many.scores["val/loss"] == pytest.approx(one.scores["val/loss"], rel=1e-2)


@HAS_GPU
@pytest.mark.filterwarnings("ignore")  # such as what torch recommends for this GPU
@pytest.mark.parametrize(
    ("network", "reason"),
    [(Late, "a step adds to the optimizer's state"), (Recenters, "a step replaces the buffer center")],
)
def test_on_a_gpu_what_a_graph_would_not_keep_is_trained_uncaptured(
    network: Callable[[], torch.nn.Module], reason: str, tmp_path: Path
) -> None:
    watch = Watch()
    Trained(tmp_path / "many", 5, callbacks=(watch,), accelerator="cuda", network=network)
    assert watch.reason == reason
