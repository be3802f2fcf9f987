"""The labelled images on which models are evaluated: a run's test images, or the user's own."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.comparison.differences import read_provenances
from experiments.evaluation.models import Model
from experiments.evaluation.robustness import values_of
from experiments.results.artifacts import Artifacts
from experiments.results.run_images import NoImages, read_split
from lightning_modules import DataConfig, InputError
from lightning_modules.datamodule import load_dataset
from lightning_modules.pipeline.splits import Subset


@dataclass(frozen=True)
class Labelled:
    """`subset` has the classes of the model. `sha256` is the same for the same images in the same order."""

    subset: Subset
    origin: str
    sha256: str
    notes: tuple[str, ...] = ()


def test_images(artifacts: Artifacts, model: Model) -> Labelled:
    """Returns the test images of the model's run. Raises InputError if they cannot be read, or have changed."""
    (recorded,) = read_provenances(artifacts, [model.run])
    try:
        subset = read_split(artifacts, model.run, recorded.provenance, "test")
    except NoImages as reason:
        remedy = "evaluate it on images of yours: --data FILE"
        raise InputError("RUN", model.run.name, f"its test images cannot be read: {reason}", remedy) from reason
    return Labelled(subset, "test images", f"{recorded.data_sha256} {subset.order_sha256}")


def own_images(path: Path, model: Model) -> Labelled:
    """Returns the images in an .npz or in a folder of class/picture; of several splits, test, or else train.

    Raises InputError if they cannot be read, or have other classes, channels or types than the model's.
    """
    is_folder = path.is_dir()
    given = {"channels": 1 if model.channels == 1 else 3, "image_size": list(model.size)} if is_folder else {}
    try:
        config = DataConfig(source="image_folder" if is_folder else "arrays", path=str(path), **given)  # type: ignore[arg-type]
        dataset = load_dataset(config)
    except InputError as error:
        remedy = "give an .npz with images x and labels y, or a folder of class/picture"
        raise InputError("--data", str(path), error.message, remedy) from error
    split, part = next((name, dataset.parts[name]) for name in ("test", "train") if name in dataset.parts)
    images = part.images
    if (images.shape[3], images.dtype) != (model.channels, model.type):
        found, wanted = (
            f"{kind} images of {count} channel{'s' * (count > 1)}"
            for kind, count in ((images.dtype, images.shape[3]), (model.type, model.channels))
        )
        message = f"holds {found}, but the model was trained on {wanted}"
        raise InputError("--data", str(path), message, "convert them")
    subset = Subset(images, part.labels, np.arange(len(part)))
    if not np.isfinite(values_of(subset)).all():
        raise InputError("--data", str(path), "has values that are not finite", "replace them")
    known = {name: index for index, name in enumerate(model.class_names)}
    unknown = {dataset.class_names[label] for label in np.unique(part.labels)} - known.keys()
    if unknown:
        classes = ", ".join(map(str, model.class_names))
        message = f"has the class {min(unknown)}, which the model does not know"
        raise InputError("--data", str(path), message, f"its classes are {classes}")
    as_known = np.array([known.get(name, -1) for name in dataset.class_names])
    notes = [f"{refused.name} is left out: it {refused.reason}" for refused in dataset.refused if not refused.is_other]
    if len(dataset.parts) > 1:
        notes.append(f"of {path}, the split {split} is used")
    subset = replace(subset, labels=as_known[part.labels])
    return Labelled(subset, str(path), f"{dataset.sha256} {split}", tuple(notes))
