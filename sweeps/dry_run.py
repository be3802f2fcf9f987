"""What a sweep would do: its recipe, its arms, its number of runs, and which difference its question can show."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.tracking.store import Store
from sweeps.answering import prospect
from sweeps.config import Sweep


@dataclass(frozen=True, kw_only=True)
class SweepDryRun:
    """What was found without training."""

    recipe: str  # complete, as YAML
    target: int | None  # trials in total; None if only hours or no_improvement end the search
    max_epochs: int  # of one trial
    finalists: int  # runs after the search, if each search has as many configurations as run again
    arms: list[dict[str, Any]]  # of a question: value, repeat (from 0), trials, space (the fields that it searches)
    prospect: str  # which difference the question can show; empty without a question

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def dry_run(sweep: Sweep, folder: str | Path) -> SweepDryRun:
    """Says what the sweep would run. `folder`: the store, from which it is read how much seeds differ."""
    arms = [
        {
            "value": arm.name,
            "repeat": arm.repeat,
            "trials": sweep.budget_of_arm.target,
            "space": [each.path for each in arm.space.parameters if len(each.choices) != 1],
        }
        for arm in sweep.compared
    ]
    return SweepDryRun(
        recipe=yaml.safe_dump(sweep.config_tree(), sort_keys=False),
        target=sweep.target,
        max_epochs=max(map(sweep.max_epochs, sweep.arms)),
        finalists=sweep.finalist_slots,
        arms=arms,
        prospect=prospect(sweep, _store_to_read(Path(folder))) if sweep.has_question else "",
    )


def _store_to_read(folder: Path) -> Store | None:
    """Returns the store; None if there is none."""
    return Store.open(folder) if Store.is_there(folder) else None
