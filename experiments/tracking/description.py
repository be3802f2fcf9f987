"""What MLflow's UI says of a run: the user's own tags and notes, and a description of its scores and settings."""

import posixpath
import re
from collections.abc import Mapping, Sequence

from experiments.artifact_names import TRACEBACK
from experiments.config import ExperimentConfig, flatten
from experiments.process.redaction import without_credentials
from lightning_modules.errors import InputError
from lightning_modules.showable import in_markdown, is_text

DESCRIPTION = "mlflow.note.content"  # MLflow's tag
_NOTES = "workbench.notes"  # so that they are known when the description is written again
_RESERVED = ("workbench.", "mlflow.")
_KEY = re.compile(r"[\w.\-: /]{1,250}")  # what MLflow accepts
_NO_TEXT = "is not Unicode text: it has NUL or half of a surrogate pair"
_MOST_NOTES, _MOST_TAG = 4000, 5000  # characters


def users_tags(tags: Mapping[str, str], notes: str | None) -> dict[str, str]:
    """Returns the tags that a run gets for tags and notes of the user's. Raises InputError if it cannot have them."""
    for key, value in tags.items():
        if key.startswith(_RESERVED):
            raise InputError("--tag", key, "is reserved: it is the workbench's or MLflow's own", "choose another name")
        if not _KEY.fullmatch(key) or posixpath.normpath(key) != key or key.startswith(("/", "..")):
            remedy = "write up to 250 letters, digits, spaces and _ . - : /"
            raise InputError("--tag", key, "is no name for a tag", remedy)
        if not is_text(value):
            raise InputError(f"--tag {key}", value, _NO_TEXT, "leave that out")
        if len(value) > _MOST_TAG:
            raise InputError(f"--tag {key}", f"{value[:20]}…", f"has more than {_MOST_TAG:,} characters", "shorten it")
    tags = {key: without_credentials(value) for key, value in tags.items()}
    if notes is None:
        return tags
    if not is_text(notes):
        raise InputError("--notes", notes, _NO_TEXT, "leave that out")
    if len(notes) > _MOST_NOTES:
        raise InputError("--notes", f"{notes[:20]}…", f"has more than {_MOST_NOTES:,} characters", "shorten it")
    notes = without_credentials(notes)
    return {**tags, _NOTES: notes, DESCRIPTION: notes}


def with_notes(description: str, tags: Mapping[str, str]) -> str:
    """Returns the description below the user's notes, if the run, whose tags these are, has any."""
    return "\n\n".join(filter(None, [tags.get(_NOTES), description]))


def describe_run(
    config: ExperimentConfig, scores: Mapping[str, float], unrecorded: Sequence[str] = (), failure: str = ""
) -> str:
    """Returns the description. `scores`: those to show, in order. `config.yaml` has the whole configuration.

    `unrecorded`: what the run used that is not in its record. `failure`: why it failed.
    """
    shown = [f"**{in_markdown(name)} {score:.4f}**" for name, score in scores.items()]
    defaults = flatten(ExperimentConfig().tree())
    fields = {name: value for name, value in flatten(config.as_recorded()).items() if defaults.get(name) != value}
    rows = [f"| {in_markdown(name)} | {in_markdown(str(value))} |" for name, value in fields.items()]
    parts = [", ".join(shown), "\n".join(["| field | value |", "|---|---|", *rows])]
    if unrecorded:
        what = "\n".join(f"- {in_markdown(what)}" for what in unrecorded)
        parts.insert(0, f"**Cannot be run again from its record alone:**\n\n{what}")
    if failure:
        reason = in_markdown(" ".join(without_credentials(failure).split()))
        parts.insert(0, f"**Failed:** {reason} ({TRACEBACK} has more)")
    return "\n\n".join(parts)
