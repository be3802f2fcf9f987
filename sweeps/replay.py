"""A recorded sweep under another pruner or a smaller budget: what it would have found, and the epochs it would save.

Nothing is trained. The recorded trials come one after another, each reports its recorded scores, and the pruner decides
again. Two things are not known. A trial that was pruned has no scores after that: where the other pruner would let it
continue, it ends there nevertheless (it is censored). And a sampler would have learned from other scores.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from experiments.artifact_names import CONFIG
from experiments.recipe import build, read_recipe, with_overrides
from experiments.tracking.runs import find_sweep
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.metrics import Direction
from sweeps.config import SweepConfig
from sweeps.errors import broken_limit
from sweeps.strategy.budget import counts
from sweeps.strategy.pruners import check_pruner, make_pruner
from sweeps.strategy.samplers import SETTINGS, SamplerConfig
from sweeps.strategy.settings import settings_of
from sweeps.study.ours import find_study
from sweeps.study.storage import Storage

ORDERS = 100  # of the trials, whose results give the intervals
_BLOCK = 10  # trials that change places with a sampler that learns from every trial
_ALLOWED = ("pruner.", "budget.trials")


@dataclass(frozen=True)
class Recorded:
    """A trial of a sweep: its scores by epoch, and how it ended."""

    scores: Mapping[int, float]
    state: TrialState
    value: float | None = None  # if it completed
    is_limited: bool = False  # whether it broke a limit of the sweep: no pruner would let it continue

    @classmethod
    def of(cls, trial: FrozenTrial) -> "Recorded":
        value = trial.value if trial.state == TrialState.COMPLETE else None
        is_limited = bool(broken_limit(trial.user_attrs.get("error", "")))
        return cls(trial.intermediate_values, trial.state, value, is_limited)

    @property
    def epochs(self) -> int:
        return len(self.scores)

    @property
    def was_pruned(self) -> bool:
        return self.state == TrialState.PRUNED and not self.is_limited


@dataclass(frozen=True)
class Played:
    """One replay. `best`: None if no trial completed. `unknown`: trials that would have continued beyond their end."""

    best: float | None
    epochs: int
    pruned: int
    unknown: int


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A replay and its original. Means and intervals are over `ORDERS` orders in which the trials could have come."""

    sweep: str
    metric: str
    direction: Direction
    pruner: dict[str, Any]  # the kind of the replay's pruner, and its given settings
    recorded: dict[str, Any]  # best, trials, epochs, pruned
    # best: the mean, ci95: 2.5 and 97.5 %; None if a trial completed in none of the orders. trials. As they came, first
    # to last: in_order, with best, epochs, pruned, and unknown: trials that would have continued beyond their end.
    replayed: dict[str, Any]
    epochs_saved: float  # the mean
    epochs_saved_ci95: tuple[float, float]
    found_the_same: float  # the share of the orders that found the recorded best value
    block: int | None  # neighbouring trials that changed places; None: all did

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def replay(store: Store, name: str, overrides: Mapping[str, Any]) -> Replay:
    """Replays a sweep. `overrides`: fields of `pruner`, and `budget.trials`.

    Raises InputError if there is no such sweep, if it has a question or no trial that ended, or if another field is
    given.
    """
    run = find_sweep(store, name)
    if run.data.tags["workbench.kind"] != "sweep":
        raise InputError("SWEEP", name, "is no sweep but repeats, which search nothing", "name a sweep")
    path = Path(store.client.download_artifacts(run.info.run_id, CONFIG))
    before = build(SweepConfig, tree := read_recipe(path))
    if before.question.is_given:
        message = "has a question: each of its arms is a search of its own, and all must have the same trials"
        raise InputError("SWEEP", name, message, "replay a sweep without a question")
    _check(name, overrides)
    if overrides.get("pruner.kind", before.pruner.kind) != before.pruner.kind:
        tree = {**tree, "pruner": {}}  # settings are those of a kind
    config = build(SweepConfig, with_overrides(tree, overrides))
    with Storage(store, config.storage).open() as database:
        study = find_study(name, database)
        trials = [] if study is None else [trial for trial in study.get_trials(deepcopy=False) if counts(trial)]
    recorded = [Recorded.of(trial) for trial in trials]
    if not recorded:
        raise InputError("SWEEP", name, "has no trial that has ended", "wait until it has some")
    budget = overrides.get("budget.trials") or len(recorded)
    if budget > len(recorded):
        message = f"the sweep has {len(recorded)} trials"
        raise InputError("budget.trials", budget, message, f"give {len(recorded)} or fewer")
    longest = max(1, *(trial.epochs for trial in recorded))
    check_pruner(config.pruner, longest)
    direction = config.objective.direction
    block = _block(config.sampler, fields=len(trials[0].params))

    def play(trials: Sequence[Recorded]) -> Played:
        return played(trials[:budget], make_pruner(config.pruner, longest), direction, study=name)

    others = [play(order) for order in orders(recorded, block)]
    spent = sum(trial.epochs for trial in recorded)
    best = _best([trial.value for trial in recorded if trial.value is not None], direction)
    found = [each.best for each in others if each.best is not None]
    saved = [spent - each.epochs for each in others]
    return Replay(
        sweep=name,
        metric=config.objective.metric,
        direction=direction,
        pruner={name: value for name, value in asdict(config.pruner).items() if value is not None},
        recorded={
            "best": best,
            "trials": len(recorded),
            "epochs": spent,
            "pruned": sum(trial.was_pruned for trial in recorded),
        },
        replayed={
            "best": float(np.mean(found)) if found else None,
            "ci95": _interval(found) if found else None,
            "trials": budget,
            "in_order": asdict(play(recorded)),
        },
        epochs_saved=float(np.mean(saved)),
        epochs_saved_ci95=_interval(saved),
        found_the_same=sum(each.best == best for each in others) / len(others),
        block=block,
    )


def _check(name: str, overrides: Mapping[str, Any]) -> None:
    for path, value in overrides.items():
        if path.partition(".")[0] == "sampler":
            message = "another sampler would have tried other points, and the sweep does not know their scores"
            raise InputError(path, value, message, f"run it: workbench sweep RECIPE --{path} {value} --name OTHER")
        if not path.startswith(_ALLOWED):
            message = "a replay can change the pruner and budget.trials alone"
            raise InputError(path, value, message, f"leave it out, or run another sweep than {name}")


def _block(sampler: SamplerConfig, fields: int) -> int | None:
    """Returns how many neighbouring trials may change places; None: all. `fields`: how many the sweep searches."""
    settings = settings_of(sampler, SETTINGS)
    match sampler.kind:
        case "tpe" | "gp":
            return max(int(settings["startup_trials"]), _BLOCK)
        case "cmaes":  # a generation, as the sampler's own default has it
            return int(settings["population"] or 4 + math.floor(3 * math.log(fields)))
        case _:
            return None


def played(
    trials: Sequence[Recorded], pruner: optuna.pruners.BasePruner, direction: Direction, *, study: str
) -> Played:
    """Plays trials in their order, one at a time. `study`: its name, by which Hyperband chooses a trial's bracket."""
    sampler = optuna.samplers.RandomSampler(0)
    playing = optuna.create_study(study_name=study, direction=direction, pruner=pruner, sampler=sampler)
    epochs, unknown, values = 0, 0, list[float]()
    for trial in trials:
        ended = _play(playing, trial)
        epochs += ended[0]
        unknown += trial.was_pruned and ended[0] == trial.epochs and not ended[2]
        if ended[1] == TrialState.COMPLETE and trial.value is not None:
            values.append(trial.value)
    pruned = sum(each.state == TrialState.PRUNED for each in playing.get_trials(deepcopy=False))
    return Played(_best(values, direction), epochs, pruned, unknown)


def _play(study: Study, trial: Recorded) -> tuple[int, TrialState, bool]:
    """Plays one trial; returns its epochs, how it ended, and whether the pruner decided that."""
    asked = study.ask()
    for count, (epoch, score) in enumerate(sorted(trial.scores.items()), start=1):
        asked.report(score, step=epoch)
        is_last = count == trial.epochs and trial.state != TrialState.PRUNED
        if not is_last and asked.should_prune():
            study.tell(asked, state=TrialState.PRUNED)
            return count, TrialState.PRUNED, True
    study.tell(asked, trial.value, state=trial.state)
    return trial.epochs, trial.state, False


def orders(trials: Sequence[Recorded], block: int | None) -> list[list[Recorded]]:
    """Returns orders in which the trials could have come as well.

    Trials of a sampler that does not learn can come in any order. A sampler that learns draws its first trials at
    random, and later ones near those that did well: there, trials change places only within each `block` of
    neighbours, between which it learned little.
    """
    draw = random.Random(0)
    size = len(trials) if block is None else block
    blocks = [trials[start : start + size] for start in range(0, len(trials), size)]
    return [[trial for part in blocks for trial in draw.sample(part, len(part))] for _ in range(ORDERS)]


def _best(values: Sequence[float], direction: Direction) -> float | None:
    return (max if direction == "maximize" else min)(values, default=None)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def sentences(document: Mapping[str, Any]) -> list[str]:
    """Returns a replay's `as_dict` in words."""
    recorded, replayed = document["recorded"], document["replayed"]
    kind = ", ".join([document["pruner"]["kind"], *(f"{k} {v}" for k, v in document["pruner"].items() if k != "kind")])
    spent = f"{recorded['trials']} trials, {recorded['pruned']} of them pruned, {recorded['epochs']} epochs"
    lines = [f"The sweep {document['sweep']} found {document['metric']} {_shown(recorded['best'])} in {spent}."]
    best, saved = "nothing, because no trial would have completed", document["epochs_saved"]
    if replayed["best"] is not None:
        best = f"{replayed['best']:.4f} [{replayed['ci95'][0]:.4f}, {replayed['ci95'][1]:.4f}]"
    low, high = document["epochs_saved_ci95"]
    lines.append(
        f"With the pruner {kind} and {replayed['trials']} trials, it would have found {best}, "
        f"and saved {saved:.0f} epochs ({saved / max(1, recorded['epochs']):.0%}) [{low:.0f}, {high:.0f}]."
    )
    among = "in any order" if document["block"] is None else f"in other orders within each {document['block']} of them"
    in_order = replayed["in_order"]
    lines.append(
        f"These are the mean and 95 % of {ORDERS} replays with the trials {among}; "
        f"{document['found_the_same']:.0%} found the same best value. "
        f"As the trials came: {_shown(in_order['best'])}, in {in_order['epochs']} epochs."
    )
    if in_order["unknown"]:
        lines.append(
            f"{in_order['unknown']} trials were pruned in the sweep where this pruner would let them continue. What "
            "they would have reached is unknown: here they end there. So it may have found more, and saved less."
        )
    elif recorded["pruned"]:
        lines.append(f"{recorded['pruned']} trials were pruned in the sweep; this pruner lets none of them continue.")
    return lines


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4f}"
