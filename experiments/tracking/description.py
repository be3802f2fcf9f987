"""Writes a run's description for MLflow's UI, in Markdown: its scores, and the settings that differ from defaults."""

from collections.abc import Mapping, Sequence

from experiments.artifact_names import TRACEBACK
from experiments.config import ExperimentConfig, flatten
from experiments.process.redaction import without_credentials


def describe_run(
    config: ExperimentConfig, scores: Mapping[str, float], unrecorded: Sequence[str] = (), failure: str = ""
) -> str:
    """Returns the description. `scores`: those to show, in order. `config.yaml` has the whole configuration.

    `unrecorded`: what the run used that is not in its record. `failure`: why it failed.
    """
    shown = [f"**{name} {score:.4f}**" for name, score in scores.items()]
    defaults = flatten(ExperimentConfig().tree())
    fields = {name: value for name, value in flatten(config.as_recorded()).items() if defaults.get(name) != value}
    rows = [f"| {name} | {value} |" for name, value in fields.items()]
    parts = [", ".join(shown), "\n".join(["| field | value |", "|---|---|", *rows])]
    if unrecorded:
        what = "\n".join(f"- {what}" for what in unrecorded)
        parts.insert(0, f"**Cannot be run again from its record alone:**\n\n{what}")
    if failure:
        reason = " ".join(without_credentials(failure).split())
        parts.insert(0, f"**Failed:** {reason} ({TRACEBACK} has more)")
    return "\n\n".join(parts)
