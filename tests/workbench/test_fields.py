"""`workbench fields`: everything that a recipe can set, with its meaning."""

import json
from collections.abc import Callable
from typing import Any

import pytest

import workbench
from experiments import ExperimentConfig
from experiments.recipe import field_paths
from sweeps import SweepConfig

Screen = Callable[..., list[str]]


@pytest.fixture
def listed(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, dict[str, Any]]]:
    """The fields that the command lists with --json, by path."""

    def read(*words: str) -> dict[str, dict[str, Any]]:
        assert workbench.main(["fields", *words, "--json"]) == 0
        return {field["path"]: field for field in json.loads(capsys.readouterr().out)["fields"]}

    return read


def test_every_field_is_listed_with_its_meaning(listed: Callable[..., dict[str, dict[str, Any]]]) -> None:
    found = listed()
    every = {path for config in (ExperimentConfig, SweepConfig) for path, _ in field_paths(config)}
    sections = {path for path in every if any(other.startswith(f"{path}.") for other in every)}
    assert found.keys() == every - sections
    assert [path for path, field in found.items() if not field["help"]] == []


@pytest.mark.parametrize(
    ("path", "kind", "default", "choices"),
    [
        ("optimizer.lr", "a number, above 0", 0.001, []),
        ("trainer.threads", "an integer, 1 or more and at most 1,024, or null", None, []),
        ("data.augmentation.padding", "one of black, mirror", "black", ["black", "mirror"]),
        ("trainer.exact", "true or false", False, []),
        ("model.network_args", "a mapping", {}, []),
        ("sampler.candidates", "an integer, 1 or more and at most 100,000, or null", None, []),
    ],
)
def test_a_field_has_type_default_and_choices(
    path: str, kind: str, default: Any, choices: list[str], listed: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    field = listed(path)[path]
    assert (field["type"], field["default"], field["choices"]) == (kind, default, choices)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data.source", "fashion_mnist"),
        ("model.network", "BaselineCNN"),
        ("model.loss", "cross_entropy"),
        ("optimizer.kind", "nadam"),
        ("optimizer.schedule.kind", "one_cycle"),
        ("trainer.monitor", "val/macro_f1"),
        ("objective.metric", "val/accuracy"),
        ("sampler.kind", "quasi_random"),
        ("pruner.kind", "hyperband"),
        ("recipe", "digits"),
    ],
)
def test_known_names_are_choices(path: str, name: str, listed: Callable[..., dict[str, dict[str, Any]]]) -> None:
    assert name in listed(path)[path]["choices"]


def test_a_field_of_a_sweep_is_told_from_one_of_an_experiment(
    listed: Callable[..., dict[str, dict[str, Any]]],
) -> None:
    found = listed()
    assert (found["budget.trials"]["recipe"], found["seed"]["recipe"]) == ("sweep", "experiment")
    assert (found["space"]["required"], found["seed"]["required"]) == (True, False)


def test_a_section_selects_its_fields(listed: Callable[..., dict[str, dict[str, Any]]]) -> None:
    schedule = {"kind", "args", "interval", "warmup_fraction", "step_fraction", "gamma"}
    assert listed("optimizer.schedule").keys() == {f"optimizer.schedule.{name}" for name in schedule}


@pytest.mark.parametrize(
    ("path", "guess"),
    [
        ("optimizer.lrr", "optimizer.lr"),
        ("lr", "optimizer.lr"),
        ("optimiser", "optimizer"),
        ("--trials", "budget.trials"),
    ],
)
def test_a_wrong_path_gets_a_guess(path: str, guess: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert workbench.main(["fields", "--json", "--", path]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == "PATH"
    assert error["remedy"].startswith(f"did you mean {guess!r}?")


def test_an_unknown_field_of_a_recipe_points_to_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert workbench.main(["train", "digits", "--lr", "0.1"]) == 2
    line = capsys.readouterr().err
    assert line.endswith("did you mean 'optimizer.lr'? to list the fields: workbench fields\n")


def test_the_list_fits_80_columns(screen: Screen) -> None:
    lines = screen("fields")
    assert max(map(len, lines)) <= 80
    words = {word for line in lines for word in line.split()}
    assert {"gradient_clip_algorithm", "conflicting_labels", "warmup_fraction", "val/calibration_error,"} <= words


def test_one_field_is_shown_by_itself(screen: Screen) -> None:
    assert screen("fields", "optimizer.lr") == [
        "optimizer.lr",
        "  The peak learning rate.",
        "  accepts  a number, above 0",
        "  default  0.001",
    ]
