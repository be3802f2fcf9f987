"""What a result says of one trial: its settings and score, when and where it ran, and its score after each epoch."""

from typing import Any

from optuna.trial import FrozenTrial

from experiments.process.owner import Owner


def trial_row(trial: FrozenTrial, run_id: str | None) -> dict[str, Any]:
    """Returns the row of a trial of the search, as JSON. With a question it has its `arm` and `repeat` (from 0)."""
    arm = {name: trial.user_attrs[name] for name in ("arm", "repeat") if name in trial.user_attrs}
    is_over = trial.state.is_finished()  # its outcome is written a moment before its value
    return arm | {
        "number": trial.number,
        "state": trial.state.name,
        "outcome": trial.user_attrs.get("outcome", "running") if is_over else "running",
        "value": trial.value,
        "params": trial.params,
        "run_id": run_id,
        "seed": trial.user_attrs.get("seed"),
        "started": trial.datetime_start and trial.datetime_start.isoformat(timespec="seconds"),
        "seconds": seconds(trial),
        "worker": _worker(trial),
        "curve": curve(trial),
        "error": trial.user_attrs.get("error", ""),
    }


def seconds(trial: FrozenTrial) -> float | None:
    """Returns how long the trial ran; None if it still runs, or if its process died and the end is not known."""
    if trial.datetime_start is None or trial.datetime_complete is None or "settled_by_another" in trial.user_attrs:
        return None
    return round((trial.datetime_complete - trial.datetime_start).total_seconds(), 1)


def curve(trial: FrozenTrial) -> list[list[float]]:
    """Returns [epoch, the objective's value] after each epoch."""
    return [[epoch, value] for epoch, value in sorted(trial.intermediate_values.items())]


def _worker(trial: FrozenTrial) -> str:
    owner = Owner.parse(trial.user_attrs.get("owner", ""))
    return owner.shown if owner is not None else ""
