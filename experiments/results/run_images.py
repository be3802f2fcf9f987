"""Reads the images of a past run again, if they are still those that the run saw."""

from collections.abc import Mapping
from typing import Any

from experiments.artifact_names import CONFIG
from experiments.config import with_located_files
from experiments.recipe import build, read_recipe
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary
from experiments.tracking.trust import is_trusted
from lightning_modules import DataConfig, ImageDataModule, InputError
from lightning_modules.pipeline.splits import Subset


class NoImages(Exception):
    """The images cannot be read; the message says why."""


def read_split(artifacts: Artifacts, run: RunSummary, provenance: Mapping[str, Any] | None, split: str) -> Subset:
    """Returns a split of a run's data, as its config and its provenance.json describe them. Raises NoImages."""
    path = artifacts.find(run, CONFIG)
    if path is None or provenance is None:
        raise NoImages("the run has no config.yaml or provenance.json")
    try:
        tree = with_located_files(read_recipe(path), [], is_recorded=True)
        if "." in str(tree["data"]["source"]) and not is_trusted(artifacts.store):
            raise NoImages("that would run code of a store that you did not make")
        data = ImageDataModule(build(DataConfig, tree["data"]))
        data.setup()
    except (InputError, KeyError) as error:
        raise NoImages(str(error)) from error
    subset = data.splits[split]
    if (data.dataset.sha256, subset.order_sha256) != (provenance["data_sha256"], provenance["split_sha256"][split]):
        raise NoImages("the data have changed since the run")
    return subset
