"""Writes a run's description for MLflow's UI, in Markdown: its scores, and the settings that differ from defaults."""

from collections.abc import Mapping, Sequence

from experiments.config import ExperimentConfig, flatten
from lightning_modules.metrics import METRICS


def describe_run(config: ExperimentConfig, metrics: Mapping[str, float], unrecorded: Sequence[str] = ()) -> str:
    """Returns the description. `metrics`: the last value of each. `config.yaml` has the whole configuration.

    `unrecorded`: what the run used that is not in its record.
    """
    names = [f"{split}/{name}" for split in ("val", "test") for name in METRICS]
    scores = [f"**{name} {metrics[name]:.4f}**" for name in names if name in metrics]
    defaults = flatten(ExperimentConfig().tree())
    fields = {name: value for name, value in flatten(config.tree()).items() if defaults.get(name) != value}
    rows = [f"| {name} | {value} |" for name, value in fields.items()]
    warning = ["**Cannot be run again from its record alone:**", "", *(f"- {what}" for what in unrecorded), ""]
    return "\n".join([*(warning if unrecorded else []), ", ".join(scores), "", "| field | value |", "|---|---|", *rows])
