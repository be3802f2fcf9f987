"""`trainer.steps_per_execution`: how many steps are executed at once, with the same trace, and why it may be one."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from experiments import RunResult, Store, load_config, run
from experiments.artifact_names import TRACE
from experiments.config import TrainerConfig
from experiments.training import stepping
from experiments.training.epochs import Epoch, Observer
from experiments.training.stepping import may_capture, steps_per_execution
from lightning_modules.log import say_once
from lightning_modules.optimizers import ScheduleConfig
from lightning_modules.stepping.captured import Captured


class EveryBatch(pl.Callback):
    def on_train_batch_end(self, *_: Any, **__: Any) -> None: ...


class EveryEpoch(pl.Callback):
    def on_train_epoch_end(self, *_: Any, **__: Any) -> None: ...


def train(
    store: Store, *, observers: Sequence[Observer] = (), resume: str | None = None, **overrides: Any
) -> RunResult:
    fixed = {"trainer.max_epochs": 2, "trainer.threads": 1, "data.batch_size": 100}  # 13 batches
    config = load_config("digits", {**fixed, **overrides})
    return run(config, store=store, progress=False, observers=observers, resume=resume)


def trace(result: RunResult) -> str:
    return (Path(result.artifact_uri.removeprefix("file://")) / TRACE).read_text()


def test_the_trace_is_the_same_for_each_number_of_steps(store: Store) -> None:
    augmented = {"data.augmentation.shift": 1, "optimizer.schedule.kind": "cosine", "trainer.gradient_clip_val": 0.2}
    traces = [trace(train(store, **augmented, **{"trainer.steps_per_execution": n})) for n in (1, 2, 64, "auto")]
    assert len(set(traces)) == 1
    assert '"step": 26' in traces[0]  # an optimizer step is a batch, whatever is executed at once


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the CPU train as a GPU would, but for the CUDA graph: steps are recorded, and repeated eagerly."""
    monkeypatch.setattr(stepping, "trains_on_gpus", lambda _: True)


def test_captured_steps_have_the_trace_of_single_ones(
    store: Store, as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[str | None] = []
    end = Captured.end

    def spied(self: Captured) -> None:
        recorded.append(self.why_not)
        end(self)

    monkeypatch.setattr(Captured, "end", spied)
    augmented = {"data.augmentation.shift": 1, "optimizer.schedule.kind": "cosine", "trainer.gradient_clip_val": 0.2}
    traces = [trace(train(store, **augmented, **{"trainer.steps_per_execution": n})) for n in (1, 2, "auto")]
    assert len(set(traces)) == 1
    assert recorded == [None, None]


class Crash(Exception):
    pass


def after_the_first(epoch: Epoch) -> None:
    if epoch.number == 1:
        raise Crash


def test_a_run_that_was_captured_resumes_as_if_it_had_never_stopped(store: Store, as_on_a_gpu: None) -> None:
    whole = train(store, **{"optimizer.schedule.kind": "cosine"})
    with pytest.raises(Crash):
        train(store, observers=[after_the_first], **{"optimizer.schedule.kind": "cosine"})
    (stopped,) = store.client.search_runs([experiment_of(store, whole)], "attributes.status = 'FAILED'")
    resumed = train(store, resume=stopped.info.run_id, **{"optimizer.schedule.kind": "cosine"})
    assert trace(resumed) == trace(whole)


def experiment_of(store: Store, result: RunResult) -> str:
    return str(store.client.get_run(result.run_id).info.experiment_id)


@pytest.mark.parametrize(("settings", "may"), [({}, True), ({"trainer.steps_per_execution": 1}, False)])
def test_steps_are_captured_on_one_gpu(settings: dict[str, Any], may: bool, as_on_a_gpu: None) -> None:
    assert may_capture(load_config("digits", settings)) is may
    assert not may_capture(load_config("digits", {**settings, "trainer.devices": 2}))


def test_mixed_images_are_not_captured(as_on_a_gpu: None, caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    with caplog.at_level(logging.INFO):
        assert not may_capture(load_config("digits", {"data.augmentation.mixup": 0.2}))
    assert [record.message for record in caplog.records] == [
        "the host launches each step's kernels: mixup and cutmix draw on the host"
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_captured() -> None:
    assert not may_capture(load_config("digits"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore")  # such as what torch recommends for this GPU
@pytest.mark.parametrize("compiled", ["none", "default", "cuda_graphs"])
def test_on_a_gpu_a_run_is_captured(compiled: str, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    with caplog.at_level(logging.INFO):
        result = train(store, **{"trainer.compile": compiled, "trainer.accelerator": "cuda"})
    assert result.outcome == "finished"
    assert not [record.message for record in caplog.records if "host launches" in record.message]
    assert not [record.message for record in caplog.records if "not compiled" in record.message]


def test_auto_fits_steps_into_half_a_second() -> None:
    def steps(step_seconds: float, **settings: Any) -> int:
        return steps_per_execution(TrainerConfig(**settings), ScheduleConfig(), [], step_seconds)

    assert steps(0.001) == 64
    assert steps(0.1) == 5
    assert steps(2.0) == 1
    assert steps(2.0, steps_per_execution=7) == 7
    assert steps_per_execution(TrainerConfig(), ScheduleConfig(), [], 0.001, captured=True) == 500


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"devices": 2}, "several devices train together"),
        ({"accumulate_grad_batches": 2}, "trainer.accumulate_grad_batches is set"),
        ({"limit_train_batches": 3}, "trainer.limit_train_batches is set"),
        ({"profiler": "simple"}, "trainer.profiler is set"),
        ({"detect_anomaly": True}, "trainer.detect_anomaly is set"),
        ({"precision": "bf16-mixed"}, "trainer.precision is set"),
    ],
)
def test_some_settings_need_every_step(settings: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    with caplog.at_level(logging.INFO):
        assert steps_per_execution(TrainerConfig(**settings), ScheduleConfig(), [], 0.001) == 1
        assert steps_per_execution(TrainerConfig(**settings), ScheduleConfig(), [], 0.001) == 1
    assert [record.message for record in caplog.records] == [
        f"steps are executed one by one (trainer.steps_per_execution 1): {reason}"
    ]


def test_a_callback_gets_the_batches_that_it_wants() -> None:
    config, schedule = TrainerConfig(steps_per_execution=8), ScheduleConfig()
    assert steps_per_execution(config, schedule, [EveryEpoch()], 0.001) == 8
    assert steps_per_execution(config, schedule, [EveryEpoch(), EveryBatch()], 0.001) == 1
    own = ScheduleConfig(kind="torch.optim.lr_scheduler.ExponentialLR", args={"gamma": 0.9}, interval="epoch")
    assert steps_per_execution(config, own, [], 0.001) == 1
    plateau = ScheduleConfig(kind="torch.optim.lr_scheduler.ReduceLROnPlateau")
    assert steps_per_execution(config, plateau, [], 0.001) == 1
