"""Registers a sweep's champion in MLflow: what the model is, how it did, and how to call it."""

from collections.abc import Mapping
from typing import Any

from mlflow.entities import Run

from experiments.dashboard.links import run_url, within
from experiments.results.listed_model import how_to_call, read_about
from experiments.tracking.registry import as_registered_name, register_model
from experiments.tracking.store import Store
from lightning_modules.metrics import METRICS, of_test
from lightning_modules.showable import in_markdown
from sweeps.config import Sweep
from sweeps.report.leaderboard import as_text, headline
from sweeps.strategy.space import describe
from sweeps.study.finalists import OWN_SETTINGS

_ALIAS = "champion"


def registered_name(sweep: Sweep) -> str:
    """Returns the sweep's name as a model name."""
    return as_registered_name(sweep.name)


def address(sweep: Sweep) -> str:
    """Returns the address by which MLflow loads the model of the sweep's champion."""
    return f"models:/{registered_name(sweep)}@{_ALIAS}"


def register_champion(store: Store, sweep: Sweep, document: Mapping[str, Any]) -> None:
    """Registers the model of the champion's first seed: choosing the best seed would reward luck.

    `document`: a result (`SweepResult.as_dict`) with a champion that has a model.
    """
    champion = document["champion"]
    run = store.client.get_run(champion["run_ids"][0])
    row = document["baseline"] if champion["number"] is None else document["finalists"][0]
    configuration = OWN_SETTINGS
    if champion["number"] is not None:
        configuration = f"trial {champion['number']}: {describe(row['params'])}"
    to_call = how_to_call(address(sweep), read_about(store, run.info.run_id))
    seeds = len(row["values"])
    facts = {
        "sweep": sweep.name,
        "configuration": configuration,
        "seed": run.data.params.get("seed", ""),
        f"{document['metric']}, mean of {seeds} seeds": as_text(row),
        **{f"{title}, mean of {seeds} seeds": as_text(score) for title, score in _on_test(champion).items()},
        "this model alone": ", ".join(f"{name} {value:.4f}" for name, value in sorted(_on_test_alone(run).items())),
    }
    page = within(run_url(store, run.info.experiment_id, run.info.run_id))
    table = ["| | |", "|---|---|", *(f"| {in_markdown(name)} | {in_markdown(text)} |" for name, text in facts.items())]
    named = in_markdown(sweep.name)
    about = f"The champion of the sweep {named}: the configuration with the best mean over fresh seeds."
    register_model(
        store,
        run.info.run_id,
        name=registered_name(sweep),
        alias=_ALIAS,
        about="\n\n".join([about, to_call]),
        description="\n\n".join(
            [in_markdown(headline(document)), "\n".join(table), to_call, f"[The run that trained it]({page})"]
        ),
        tags={
            "workbench.sweep": sweep.name,
            "workbench.configuration": configuration,
            "workbench.seed": facts["seed"],
            "workbench.metric": document["metric"],
            "workbench.mean": as_text(row),
        },
    )


def _on_test(champion: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the champion's test scores by their titles."""
    names = [name.removeprefix("test_") for name in champion if name.startswith("test_")]
    titles = {name: METRICS[name].title if name in METRICS else name for name in names}
    scores = {f"test {titles[name]}": champion[f"test_{name}"] for name in names}
    return {title: score for title, score in scores.items() if score is not None}


def _on_test_alone(run: Run) -> dict[str, float]:
    return {name: value for name, value in run.data.metrics.items() if of_test(name)}
