"""Reports the faults found in a run's images, or in images that no run has used yet."""

import json
from collections.abc import Mapping
from typing import Any

from experiments.artifact_names import DATA_REPORT, DATA_REPORT_PLOT
from experiments.config import ExperimentConfig, load_config
from experiments.pictures.plots import plot_data_report
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules import CleaningConfig, DataReport, ImageDataModule, InputError
from lightning_modules.checked_path import checked_path
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset, all_sources
from lightning_modules.errors import choose_from
from lightning_modules.pipeline.cleaning import clean
from lightning_modules.pipeline.splits import as_published

_REPORT_ALL = CleaningConfig(unreadable="report", non_finite="report")

_drawn: dict[str, bytes] = {}  # the latest picture, keyed by its report: all trials of a sweep have the same one


def record(run: TrackedRun, data: ImageDataModule) -> None:
    """Writes `data_report.json` and its picture, and tags the run with the number of dropped images if any."""
    where = data.config.path or data.config.source
    text = json.dumps(_document(where, data.report, data.dataset), indent=2)
    run.path(DATA_REPORT).write_text(text, encoding="utf-8")
    picture = run.path(DATA_REPORT_PLOT)
    if text not in _drawn:
        plot_data_report(data.report, data.splits, picture)
        _drawn.clear()
        _drawn[text] = picture.read_bytes()
    picture.write_bytes(_drawn[text])
    if dropped := sum(summary["dropped"] for summary in data.report.splits.values()):
        run.set_tags({"workbench.data_dropped": str(dropped)})


def check(name_or_path: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Checks a whole data set as it was published; returns its `path`, `splits`, `findings` and `sha256`.

    Reads a folder like `workbench train image_folder`, and a file like `train arrays`; `overrides` are fields of that
    recipe. It drops no images, and no cleaning policy raises an error.
    """
    config = _config(name_or_path, overrides).data
    dataset = load_dataset(config)
    _, report = clean(dataset, as_published(dataset), _REPORT_ALL)
    return _document(config.path or config.source, report, dataset)


def _config(name_or_path: str, overrides: Mapping[str, Any]) -> ExperimentConfig:
    path = checked_path("NAME-OR-PATH", name_or_path)
    if path.exists():
        recipe = "image_folder" if path.is_dir() else "arrays"
        return load_config(recipe, {"data.path": name_or_path, **overrides})
    if name_or_path not in all_sources():
        remedy = f"{choose_from(name_or_path, all_sources())}, or give a path"
        raise InputError("NAME-OR-PATH", name_or_path, "no such file, folder or data set", remedy)
    return ExperimentConfig().with_overrides({"data.source": name_or_path, **overrides})


def _document(path: str, report: DataReport, dataset: ImageDataset) -> dict[str, Any]:
    return {"path": path, **report.as_dict(), "sha256": dataset.sha256}
