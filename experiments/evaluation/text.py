"""Puts an evaluation into words, for the terminal, the page and MLflow's description."""

from collections.abc import Mapping
from typing import Any

from lightning_modules.showable import showable

Document = Mapping[str, Any]


def interval(ci95: tuple[float, float] | list[float] | None, digits: int = 4) -> str:
    """Returns an interval with a space in front; nothing if there is none."""
    return "" if ci95 is None else f" [{ci95[0]:.{digits}f}, {ci95[1]:.{digits}f}]"


def sentences(document: Document) -> list[str]:
    """Returns the verdict, then sentences on robustness, calibration and agreement, and the notes."""
    return [
        _verdict(document),
        _errors(document["corruption_error"]),
        _calibration(document),
        *([_agreement(document["agreement"])] if document["agreement"] else []),
        *(f"note: {note}" for note in document["notes"]),
    ]


def _verdict(document: Document) -> str:
    seeds, rows = len(document["run_ids"]), document["corruptions"]
    name = showable(document["name"]) + (f", mean of {seeds} seeds" if seeds > 1 else f" ({document['run_id'][:8]})")
    value, images = document["accuracy"], f"{document['data']['images']:,}"
    on = "test images" if document["data"]["origin"] == "test images" else f"images of {document['data']['origin']}"
    mean = sum(row["accuracy"] for row in rows) / len(rows)
    worst = min(rows, key=lambda row: row["accuracy"])
    return (
        f"{name}: accuracy {value['value']:.4f}{interval(value['ci95'])} on {images} {on}; corrupted, {mean:.4f} on "
        f"average, and {worst['accuracy']:.4f} at worst ({worst['name']}, strength {worst['strength']})"
    )


def _errors(errors: Document) -> str:
    text = f"mean corruption error: {errors['mean']:.4f}{interval(errors['ci95'])}"
    if errors["against"] is None:
        return text
    ratio, ci95 = errors["relative"], errors["relative_ci95"]
    if ratio is None:
        return f"{text}; not relative to {errors['against']}, which makes no error under some corruption"
    judged = "which is not distinguishable"
    if ci95 is not None and not ci95[0] <= 1 <= ci95[1]:
        judged = "which is more robust" if ratio < 1 else "which is less robust"
    return f"{text}; {ratio:.3f}{interval(ci95, 3)} times that of {showable(errors['against'])}, {judged}"


def _calibration(document: Document) -> str:
    found, error = document["calibration"], f"calibration error: {document['calibration_error']:.4f}"
    if found["temperature"] is None:
        return f"{error}; no temperature, since there are no predictions on val to fit it on"
    after = f"{found['error_after']:.4f} at temperature {found['temperature']:.2f}, fitted on val"
    sure = "too sure of its labels" if found["temperature"] > 1 else "less sure of its labels than it could be"
    return f"{error}, and {after}: the model is {sure}"


def _agreement(found: Document) -> str:
    text = f"all {found['seeds']} seeds agree on {100 * found['all']:.1f} % of the images"
    right = "" if found["accuracy"] is None else f", of which they label {100 * found['accuracy']:.1f} % rightly"
    others = f"; on the other {found['images']:,} their accuracy is {found['accuracy_otherwise']:.4f} on average"
    return text + right + (others if found["images"] else "")
