"""A run's description in MLflow's UI, in Markdown: what came of it, and what was trained."""

from collections.abc import Mapping

from experiments.config import ExperimentConfig, flatten
from lightning_modules.metrics import METRICS


def describe_run(config: ExperimentConfig, metrics: Mapping[str, float]) -> str:
    """`metrics`: the last value of each. Of the configuration what differs from the defaults; `config.yaml` has all."""
    names = [f"{split}/{name}" for split in ("val", "test") for name in METRICS]
    scores = [f"**{name} {metrics[name]:.4f}**" for name in names if name in metrics]
    defaults = flatten(ExperimentConfig().tree())
    fields = {name: value for name, value in flatten(config.tree()).items() if defaults.get(name) != value}
    rows = [f"| {name} | {value} |" for name, value in fields.items()]
    return "\n".join([", ".join(scores), "", "| field | value |", "|---|---|", *rows])
