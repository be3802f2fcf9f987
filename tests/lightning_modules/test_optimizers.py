"""From settings to torch optimizers, and the learning rate step by step."""

import math
from collections import UserList
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch import nn

from lightning_modules import ImageClassifier, InputError, OptimizerConfig, ScheduleConfig


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        (
            {"kind": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
            torch.optim.SGD,
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        ),
        ({"kind": "adam", "beta1": 0.8, "eps": 1e-6}, torch.optim.Adam, {"betas": (0.8, 0.999), "eps": 1e-6}),
        ({"kind": "adamw", "beta2": 0.98, "weight_decay": 0.1}, torch.optim.AdamW, {"betas": (0.9, 0.98)}),
        ({"kind": "rmsprop", "alpha": 0.9, "momentum": 0.5}, torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.5}),
    ],
)
def test_each_kind_becomes_its_torch_optimizer(
    settings: dict[str, Any], kind: type[torch.optim.Optimizer], expected: dict[str, Any]
) -> None:
    network = nn.Linear(2, 2)
    optimizer = OptimizerConfig(lr=0.25, **settings).build(network)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert group["params"] == list(network.parameters())
    assert {name: group[name] for name in {"lr": 0.25} | expected} == {"lr": 0.25} | expected


@pytest.mark.parametrize(
    ("kind", "torch_kind"),
    [
        ("sgd", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_what_is_left_out_has_torch_s_default(kind: Any, torch_kind: Any) -> None:
    network = nn.Linear(2, 2)
    ours = OptimizerConfig(kind=kind).build(network).defaults
    torchs = torch_kind(network.parameters(), lr=0.001, weight_decay=0.0).defaults
    for speed in ("fused", "foreach"):
        ours.pop(speed, None), torchs.pop(speed, None)
    assert ours == torchs


@pytest.mark.parametrize(
    ("settings", "after"),
    [
        ({"kind": "sgd"}, 1 - 0.1 * 2),
        ({"kind": "sgd", "weight_decay": 0.5}, 1 - 0.1 * (2 + 0.5)),
        ({"kind": "sgd", "momentum": 0.9, "nesterov": True}, 1 - 0.1 * (2 + 0.9 * 2)),
        ({"kind": "adam"}, 1 - 0.1),  # the first step is lr · sign(gradient)
        ({"kind": "adamw", "weight_decay": 0.5}, 1 * (1 - 0.1 * 0.5) - 0.1),
        ({"kind": "rmsprop", "alpha": 0.99}, 1 - 0.1 * 2 / math.sqrt(0.01 * 2**2)),
    ],
)
def test_the_first_step_from_1_with_gradient_2(settings: dict[str, Any], after: float) -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    optimizer = OptimizerConfig(lr=0.1, **settings).build(network)
    network(torch.tensor([2.0])).backward()
    optimizer.step()
    assert network.weight.item() == pytest.approx(after, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "name", "value", "takers"),
    [
        ("adam", "momentum", 0.9, "rmsprop, sgd"),
        ("adam", "nesterov", False, "sgd"),
        ("adamw", "alpha", 0.9, "rmsprop"),
        ("sgd", "beta1", 0.9, "adam, adamw"),
        ("sgd", "eps", 1e-8, "adam, adamw, rmsprop"),
        ("rmsprop", "beta2", 0.9, "adam, adamw"),
        ("rmsprop", "nesterov", True, "sgd"),
    ],
)
def test_a_setting_of_another_kind_is_refused(kind: Any, name: str, value: Any, takers: str) -> None:
    with pytest.raises(InputError, match=rf"^optimizer\.{name}: is not a setting of {kind} .*from {takers}$"):
        OptimizerConfig(kind=kind, **{name: value})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lr", {"lr": -0.1}),
        ("lr", {"lr": 0.0}),
        ("lr", {"lr": math.inf}),
        ("lr", {"lr": math.nan}),
        ("weight_decay", {"weight_decay": -1e-4}),
        ("weight_decay", {"weight_decay": math.nan}),
        ("momentum", {"kind": "sgd", "momentum": 1.0}),
        ("beta1", {"beta1": -0.1}),
        ("beta2", {"beta2": 1.0}),
        ("alpha", {"kind": "rmsprop", "alpha": math.nan}),
        ("eps", {"eps": 0.0}),
        ("nesterov", {"kind": "sgd", "nesterov": True}),
        ("nesterov", {"kind": "sgd", "nesterov": True, "momentum": 0.0}),
        ("kind", {"kind": "sdg"}),
        ("schedule.kind", {"kind": "linear"}),
        ("schedule.warmup_fraction", {"warmup_fraction": 1.0}),
        ("schedule.warmup_fraction", {"warmup_fraction": -0.1}),
        ("schedule.step_fraction", {"kind": "step", "step_fraction": 0.0}),
        ("schedule.gamma", {"kind": "step", "gamma": 1.5}),
        ("schedule.gamma", {"kind": "step", "gamma": math.nan}),
    ],
)
def test_an_impossible_setting_is_refused_by_its_name(name: str, settings: dict[str, Any]) -> None:
    config = ScheduleConfig if name.startswith("schedule.") else OptimizerConfig
    with pytest.raises(InputError, match=rf"^optimizer\.{name}: "):
        config(**settings)


ROOT_HALF = math.sqrt(0.5)
FACTORS: list[tuple[dict[str, Any], list[float]]] = [
    ({"kind": "constant"}, [1, 1, 1, 1]),
    ({"kind": "constant", "warmup_fraction": 0.5}, [1 / 3, 2 / 3, 1, 1]),
    ({"kind": "cosine"}, [1, (1 + ROOT_HALF) / 2, 1 / 2, (1 - ROOT_HALF) / 2]),
    ({"kind": "cosine", "warmup_fraction": 0.5}, [1 / 3, 2 / 3, 1, 1 / 2]),
    ({"kind": "step"}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
    ({"kind": "step", "step_fraction": 0.5, "gamma": 0.5}, [1, 1, 0.5, 0.5]),
    ({"kind": "step", "step_fraction": 0.5, "warmup_fraction": 0.25}, [1 / 2, 1, 0.1, 0.1]),
    ({"kind": "step", "step_fraction": 0.1, "gamma": 0.5}, [0.5**k for k in range(10)]),
    # a cosine passes its third at 3/4 of its height, its half at 1/2, two thirds at 1/4
    ({"kind": "one_cycle", "warmup_fraction": 0.75}, [0.04, 0.28, 0.76, 1]),
    ({"kind": "one_cycle", "warmup_fraction": 0.5}, [0.04, 0.52, 1, (1 + 4e-6) / 2]),
    ({"kind": "one_cycle", "warmup_fraction": 0}, [1, 0.75 + 1e-6, 0.25 + 3e-6]),
]


FACTORS_OF_4_STEPS = [pair for pair in FACTORS if len(pair[1]) == 4]


@pytest.mark.parametrize(("settings", "factors"), FACTORS)
def test_the_share_of_the_learning_rate_step_by_step(settings: dict[str, Any], factors: list[float]) -> None:
    schedule = ScheduleConfig(**settings)
    assert [schedule.factor(step, len(factors)) for step in range(len(factors))] == pytest.approx(factors)


def test_one_cycle_climbs_over_three_tenths_unless_told_otherwise() -> None:
    factors = [ScheduleConfig(kind="one_cycle").factor(step, 10) for step in range(10)]
    assert factors[:4] == pytest.approx([0.04, 0.28, 0.76, 1])
    assert factors[3:] == sorted(factors[3:], reverse=True)


@pytest.mark.parametrize("kind", ["constant", "cosine", "one_cycle", "step"])
def test_a_run_of_one_step_takes_it_at_the_full_learning_rate(kind: Any) -> None:
    assert ScheduleConfig(kind=kind).factor(0, 1) == 1


@pytest.mark.parametrize(("kind", "end"), [("cosine", 0.0), ("one_cycle", 4e-6)])
def test_a_falling_schedule_is_all_the_way_down_once_the_run_is_over(kind: Any, end: float) -> None:
    assert ScheduleConfig(kind=kind).factor(100, 100) == pytest.approx(end, abs=1e-12)


IMAGE = (torch.ones(1, 1, 1, 2), torch.tensor([0]))
ONE, TWO = UserList([IMAGE]), UserList([IMAGE, IMAGE])  # Lightning would take a list for several loaders


def classifier(**schedule: Any) -> ImageClassifier:
    optimizer = OptimizerConfig(kind="sgd", lr=0.1, schedule=ScheduleConfig(**schedule))
    return ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), optimizer=optimizer)


@pytest.mark.parametrize(("settings", "factors"), FACTORS_OF_4_STEPS)
def test_training_follows_the_schedule_across_epochs(
    settings: dict[str, Any], factors: list[float], make_trainer: Callable[..., Trainer], recorder: Any
) -> None:
    make_trainer(max_epochs=2, callbacks=[recorder]).fit(classifier(**settings), TWO, ONE)
    assert recorder.rates == pytest.approx([0.1 * factor for factor in factors])


class StopAtOnce(Callback):
    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        trainer.should_stop = True


def test_a_constant_learning_rate_needs_no_end_of_training_known(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer(max_epochs=-1, callbacks=[StopAtOnce()])
    trainer.fit(classifier(kind="constant"), ONE, ONE)
    assert trainer.global_step == 1


def test_a_function_that_makes_a_plateau_schedule_needs_the_interval_of_an_epoch() -> None:
    kind = "tests.own_parts.plateau"
    for interval, is_refused in (("step", True), ("epoch", False)):
        config = OptimizerConfig(schedule=ScheduleConfig(kind=kind, interval=interval))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="waits for a plateau") if is_refused else nullcontext():
            config.build_schedule(config.build(nn.Linear(2, 2)), 10)
