"""Shows what `workbench train --dry-run` found."""

import shlex

from workbench._command import Document, print_table, table
from workbench._layout import print_lines, print_prose

_MOST_EPOCHS = 20  # rows of the table of learning rates
_BAR = 24  # characters of the highest learning rate


def show_dry_run(document: Document) -> None:
    print_lines(document["recipe"])
    _show_splits(document)
    if document["findings"]:
        kinds = dict.fromkeys(finding["kind"] for finding in document["findings"])
        data = document["config"]["data"]
        command = shlex.join(["workbench", "data", "check", data["path"] or data["source"]])
        print_prose(f"found: {', '.join(kinds)}; to see them: {command}", "data       ")
    trained = document["trained_parameters"]
    all_parameters = f"{document['parameters']:,} parameters"
    some = "" if trained == document["parameters"] else f", of which {trained:,} are trained"
    memory = f"; memory format {document['memory_format']}" if document["memory_format"] else ""
    print_prose(f"{all_parameters}{some}{memory}", "network    ")
    if document["steps_per_epoch"] is not None:
        print(f"steps      {document['steps_per_epoch']:,} per epoch")
    for warning in document["warnings"]:
        print_prose(warning, "warning    ")
    _show_rates(document)
    print("nothing was trained, and nothing was written")


def _show_splits(document: Document) -> None:
    if all("shape" not in summary for summary in document["splits"].values()):  # data of a module of the user's own
        splits = table("split", "samples")
        for split, summary in document["splits"].items():
            splits.add_row(split, "not known" if summary["count"] is None else f"{summary['count']:,}")
    else:
        splits = table("split", "images", "height × width × channels", "type", "classes")
        for split, summary in document["splits"].items():
            size = " × ".join(map(str, summary["shape"]))
            splits.add_row(split, f"{summary['count']:,}", size, summary["dtype"], str(len(summary["classes"])))
    print_table(splits)


def _show_rates(document: Document) -> None:
    rates = document["learning_rates"]
    if not rates:
        print_prose(f"not known before the run: {document['rates_unknown']}", "rate       ")
        return
    highest = max(max(rate["first"], rate["last"]) for rate in rates) or 1.0
    shown = table("epoch", "learning rate", "at its end", "")
    for index in _spread(len(rates)):
        rate = rates[index]
        bar = "█" * round(_BAR * max(rate["first"], 0.0) / highest)
        shown.add_row(str(rate["epoch"]), f"{rate['first']:.4g}", f"{rate['last']:.4g}", bar)
    print_table(shown)


def _spread(count: int) -> list[int]:
    """Returns the indices of all epochs, or of some at equal distances, with the first and the last."""
    rows = min(count, _MOST_EPOCHS)
    return [round(row * (count - 1) / max(1, rows - 1)) for row in range(rows)]
