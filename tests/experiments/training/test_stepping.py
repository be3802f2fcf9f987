"""`trainer.steps_per_execution`: how many steps are executed at once, with the same trace, and why it may be one."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from mlflow.entities import Run
from pytorch_lightning.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging

from experiments import RunResult, Store, load_config, run
from experiments.artifact_names import CONFIG, TRACE
from experiments.config import TrainerConfig
from experiments.provenance.checks import check
from experiments.provenance.record import read_record
from experiments.training import stepping
from experiments.training.epochs import Epoch, Observer
from experiments.training.stepping import may_capture, steps_per_execution
from lightning_modules import InputError
from lightning_modules.log import say_once
from lightning_modules.optimizers import ScheduleConfig
from lightning_modules.stepping.captured import Captured


class EveryBatch(pl.Callback):
    def on_train_batch_end(self, *_: Any, **__: Any) -> None: ...


class EveryEpoch(pl.Callback):
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("epochs", float(trainer.current_epoch + 1))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("validations", float(trainer.current_epoch + 1))


def train(
    store: Store,
    *,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[pl.Callback] = (),
    resume: str | None = None,
    **overrides: Any,
) -> RunResult:
    fixed = {"trainer.max_epochs": 2, "trainer.threads": 1, "data.batch_size": 100}  # 13 batches
    config = load_config("digits", {**fixed, **overrides})
    return run(config, store=store, progress=False, observers=observers, callbacks=callbacks, resume=resume)


def folder(result: RunResult) -> Path:
    return Path(result.artifact_uri.removeprefix("file://"))


def trace(result: RunResult) -> str:
    return (folder(result) / TRACE).read_text()


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


class AtOnce(pl.Callback):
    def on_train_epoch_start(self, *_: Any, **__: Any) -> None:
        raise Crash


def runs(store: Store, status: str = "") -> list[Run]:
    """Returns the runs of a status, or all, the latest first."""
    experiments = [each.experiment_id for each in store.client.search_experiments()]
    wanted = f"attributes.status = '{status}'" if status else ""
    return list(store.client.search_runs(experiments, wanted, order_by=["attributes.start_time DESC"]))


def stopped(store: Store, **options: Any) -> str:
    """Returns the id of a run that has crashed."""
    with pytest.raises(Crash):
        train(store, **options)
    return str(runs(store, "FAILED")[0].info.run_id)


def test_a_run_that_was_captured_resumes_as_if_it_had_never_stopped(store: Store, as_on_a_gpu: None) -> None:
    whole = train(store, **{"optimizer.schedule.kind": "cosine"})
    run_id = stopped(store, observers=[after_the_first], **{"optimizer.schedule.kind": "cosine"})
    resumed = train(store, resume=run_id, **{"optimizer.schedule.kind": "cosine"})
    assert trace(resumed) == trace(whole)


@pytest.mark.parametrize(("before", "after"), [(1, 64), (64, 1), (1, 5)])
def test_a_run_resumes_with_another_number_of_steps(before: int, after: int, store: Store) -> None:
    """What callbacks log has the step of single steps, too."""

    def train_by(steps: int, **options: Any) -> RunResult:
        return train(store, callbacks=[EveryEpoch()], **{"trainer.steps_per_execution": steps}, **options)

    whole = train_by(before)
    run_id = stopped(
        store,
        callbacks=[EveryEpoch()],
        observers=[after_the_first],
        **{"trainer.steps_per_execution": before},
    )
    resumed = train_by(after, resume=run_id)
    assert trace(resumed) == trace(whole)
    # It crashed before Lightning had passed on what was logged at the end of the first epoch.
    assert logged_steps(store, resumed) == {"epochs": [25], "validations": [12, 25]}
    assert store.client.get_run(run_id).data.params["trainer.steps_per_execution"] == str(before)
    assert load_config(str(folder(resumed) / CONFIG)).trainer.steps_per_execution == before


def test_callbacks_log_by_the_same_step_however_many_are_executed(store: Store) -> None:
    one, some, all_ = (
        logged_steps(store, train(store, callbacks=[EveryEpoch()], **{"trainer.steps_per_execution": n}))
        for n in (1, 5, "auto")
    )
    assert one == some == all_ == {"epochs": [12, 25], "validations": [12, 25]}


def logged_steps(store: Store, result: RunResult) -> dict[str, list[int]]:
    history = {name: store.client.get_metric_history(result.run_id, name) for name in ("epochs", "validations")}
    return {name: [point.step for point in points] for name, points in history.items()}


def test_a_run_without_an_epoch_that_resumes_with_another_number_of_steps_has_a_record_that_agrees(
    store: Store, tmp_path: Path
) -> None:
    run_id = stopped(store, callbacks=[AtOnce()], **{"trainer.steps_per_execution": 1})
    result = train(store, resume=run_id, **{"trainer.steps_per_execution": 64})
    assert check(store, read_record(store, result.run_id, tmp_path / "record")).problems == []


def test_weights_are_averaged_step_by_step(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    averaging = {"kind": "pytorch_lightning.callbacks.StochasticWeightAveraging", "args": {"swa_lrs": 0.05}}
    options = {"model.network": "MLP", "trainer.callbacks": [averaging], "trainer.max_epochs": 3}
    with caplog.at_level(logging.INFO):
        one, auto = (train(store, **options, **{"trainer.steps_per_execution": n}) for n in (1, "auto"))
    assert trace(auto) == trace(one)
    assert [record.message for record in caplog.records if "one by one" in record.message] == [
        "steps are executed one by one (trainer.steps_per_execution 1): "
        "the callback StochasticWeightAveraging needs Lightning's automatic optimization"
    ]


def test_a_function_that_makes_a_plateau_schedule_is_refused_where_it_would_step_at_each_step(store: Store) -> None:
    """A class is known to step once an epoch; what a function makes is known too late."""
    before = len(runs(store))
    for steps in (1, "auto"):
        with pytest.raises(InputError, match=r"^optimizer\.schedule\.interval: .*write optimizer\.schedule\.interval:"):
            train(
                store,
                **{"optimizer.schedule.kind": "tests.own_parts.plateau", "trainer.steps_per_execution": steps},
            )
    assert len(runs(store)) == before


def test_a_network_whose_step_cannot_be_captured_is_compiled_by_itself(
    store: Store, as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, mode: compiled.append(mode))
    train(store, **{"trainer.compile": "default", "optimizer.kind": "adagrad"})
    train(store, **{"trainer.compile": "cuda_graphs", "optimizer.kind": "adagrad"})
    train(store, **{"trainer.compile": "cuda_graphs"})
    assert compiled == ["default", "reduce-overhead"]


@pytest.mark.parametrize(("settings", "may"), [({}, True), ({"trainer.steps_per_execution": 1}, False)])
def test_steps_are_captured_on_one_gpu(settings: dict[str, Any], may: bool, as_on_a_gpu: None) -> None:
    assert may_capture(load_config("digits", settings)) is may
    assert not may_capture(load_config("digits", {**settings, "trainer.devices": 2}))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "the host launches each step's kernels: mixup and cutmix draw on the host"),
        (
            {"trainer.accumulate_grad_batches": 2},
            "steps are executed one by one (trainer.steps_per_execution 1): trainer.accumulate_grad_batches is set",
        ),
    ],
)
def test_mixed_images_are_not_captured(
    more: dict[str, Any], reason: str, store: Store, as_on_a_gpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    say_once.cache_clear()
    settings = {"data.augmentation.mixup": 0.2, **more}
    assert not may_capture(load_config("digits", settings))
    with caplog.at_level(logging.INFO):
        train(store, **settings)
    said = [record.message for record in caplog.records]
    assert [message for message in said if "kernels" in message or "one by one" in message] == [reason]


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


@pytest.mark.parametrize(
    "callback", [StochasticWeightAveraging(swa_lrs=0.1), GradientAccumulationScheduler(scheduling={1: 2})]
)
def test_a_callback_gets_the_optimization_that_it_changes(callback: pl.Callback) -> None:
    assert steps_per_execution(TrainerConfig(steps_per_execution=8), ScheduleConfig(), [callback], 0.001) == 1
