"""Describes a run's data as MLflow's data inputs. A digest is cut to 36 characters; tag and profile hold all of it."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from experiments.code.portable import portable
from experiments.training.trace import Digests
from lightning_modules import ImageDataModule


def image_inputs(data: ImageDataModule) -> list[DatasetInput]:
    """Returns one input for each split."""
    places = {
        name: value and portable(value) for name, value in (("path", data.config.path), ("root", data.config.root))
    }
    return [_image_input(split, data, {"source": data.config.source, **places}) for split in data.splits]


def _image_input(split: str, data: ImageDataModule, source: Mapping[str, Any]) -> DatasetInput:
    subset = data.splits[split]
    digest = sha256(f"{data.dataset.sha256} {split}".encode())
    digest.update(subset.indices.tobytes())
    shape = [len(subset), *subset.images.shape[1:]]
    profile = {"sha256": digest.hexdigest(), "data_sha256": data.dataset.sha256, "images": len(subset)}
    tensor = {"type": "tensor", "tensor-spec": {"dtype": str(subset.images.dtype), "shape": [-1, *shape[1:]]}}
    schema = json.dumps({"mlflow_tensorspec": {"features": json.dumps([tensor])}})
    return _input(f"{data.config.source}-{split}", split, digest.hexdigest(), source, profile, schema)


def own_inputs(name: str, digests: Digests, counts: Mapping[str, int]) -> list[DatasetInput]:
    """Returns one input for each split of the data module `name`. `counts`: the samples in a split, where known."""
    found = []
    for split, digest in digests.splits.items():
        profile = {"sha256": digest, "data_sha256": digests.data, "samples": counts.get(split)}
        found.append(_input(f"{name}-{split}", split, digest, {"module": name}, profile, None))
    return found


def _input(
    name: str, split: str, digest: str, source: Mapping[str, Any], profile: Mapping[str, Any], schema: str | None
) -> DatasetInput:
    dataset = Dataset(
        name=name,
        digest=digest[:36],
        source_type="local",
        source=json.dumps(source),
        schema=schema,
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", split), InputTag("workbench.sha256", digest)])
