"""Holds a run's record against itself: what was written down twice must agree, and nothing may differ from its seal."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.artifact_names import BEST_CHECKPOINT, LAST_CHECKPOINT, PREDICTIONS, PROVENANCE, RECORD
from experiments.code.recorded import RecordedCode
from experiments.config import MAY_CHANGE
from experiments.errors import Altered, CannotRun
from experiments.provenance.record import Record
from experiments.provenance.signature import check_signature
from experiments.tracking.addresses import local_folder
from experiments.tracking.seal import as_stored, broken
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import step_of
from experiments.training.trace import Line, optimizers_sha256, tensors_sha256

_NEAR = 1e-6  # by how much an accuracy may differ from the share of right labels, because it was summed in float32


@dataclass(frozen=True)
class Check:
    """Where a record contradicts itself, whether it is sealed, and who signed it."""

    problems: list[str]  # things that disagree; none: the record is as the run left it, as far as that can be seen
    is_sealed: bool  # whether `record.json` says what every file held when the run was closed
    signed_by: str | None  # the key that signed it


def check(store: Store, record: Record) -> Check:
    """Checks a record; changes nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = local_folder(record.run.info.artifact_uri)
        if folder is None:
            folder = Path(store.client.download_artifacts(record.run.info.run_id, "", scratch))
        problems: list[str] = []
        try:
            problems += _disagreements(store, record, folder)
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # it is not what the workbench writes
            problems.append(f"the record cannot be read: {error!r}")
        sealed = signed_by = None
        try:
            sealed = _seal_of(record, folder)
            if sealed is not None:
                problems += broken(sealed, record.run, folder)
                signed_by = check_signature(folder)
        except Altered as error:
            problems.append(error.message)
    return Check(list(dict.fromkeys(problems)), sealed is not None, signed_by)


def _seal_of(record: Record, folder: Path) -> Mapping[str, Any] | None:
    """Returns `record.json`; None if there is none, or if the run went on after it was written, and then died."""
    if not (folder / RECORD).exists():
        return None
    try:
        sealed: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        is_whole = {"run_id", "status", "owner", "params", "metrics", "tags", "artifacts"} <= sealed.keys()
    except (ValueError, AttributeError):
        is_whole = False
    if not is_whole:
        raise Altered(f"{RECORD}: is not what the workbench writes")
    went_on = sealed["owner"] != record.run.data.tags.get("workbench.owner", "")
    return None if went_on and sealed["run_id"] == record.run.info.run_id else sealed


def _disagreements(store: Store, record: Record, folder: Path) -> Iterator[str]:
    for name in sorted(record.edited - MAY_CHANGE):
        if name in record.run.data.params or not _has_died(record):
            yield f"{name}: config.yaml and the run's param differ"
    yield from _in_provenance(store, record)
    yield from _in_metrics(store, record)
    # Callbacks of the user's may write other weights than those of the epoch, such as their moving average.
    has_callbacks = bool(record.tree.get("trainer", {}).get("callbacks"))
    for name in (LAST_CHECKPOINT, BEST_CHECKPOINT):
        if (folder / name).exists() and not has_callbacks:
            yield from _in_checkpoint(record, folder, name)
    if (folder / PREDICTIONS).exists():
        yield from _in_predictions(record, folder)


def _in_provenance(store: Store, record: Record) -> Iterator[str]:
    """Compares provenance.json with the trace, the config, the tags and `code.git`."""
    told, tags = record.provenance, record.run.data.tags
    stages = {line["stage"]: line["sha256"] for line in record.trace if "sha256" in line}
    git = told["git"] or {}
    pairs = [
        ("the data's SHA-256", told["data_sha256"], "trace.jsonl", stages.get("data")),
        ("the data's SHA-256", told["data_sha256"], "the tag", tags.get("workbench.data_sha256")),
        ("the split's SHA-256", told.get("split_sha256"), "trace.jsonl", stages.get("split")),
        ("the seed", told.get("seed"), "config.yaml", record.tree.get("seed")),
        ("the commit", git.get("commit"), "the tag", tags.get("mlflow.source.git.commit")),
    ]
    for what, here, where, there in pairs:
        if here is not None and there is not None and here != there:
            yield f"{what}: {PROVENANCE} and {where} differ"
    try:
        RecordedCode(store.folder, told, record.folder).check()
    except Altered as error:
        yield error.message
    except CannotRun:
        return  # said when it is run


def _in_metrics(store: Store, record: Record) -> Iterator[str]:
    """Compares the metrics in the database with the trace, which holds the exact scores of every epoch."""
    epochs = [line for line in record.trace if line["stage"] == "epoch"]
    has_died = _has_died(record)
    for name in sorted({name for line in epochs for name in line["metrics"]}):
        if name not in record.run.data.metrics:
            if not has_died:
                yield f"metric {name}: in trace.jsonl, but not in the database"
            continue
        history = {point.step: point.value for point in store.client.get_metric_history(record.run.info.run_id, name)}
        for line in epochs:
            exact = as_stored(float.fromhex(line["metrics"][name])) if name in line["metrics"] else None
            stored = history.get(step_of(record.run.data.tags, line["epoch"], line["step"]))
            if exact is not None and not (_are_same(exact, stored) if stored is not None else has_died):
                yield f"metric {name} in epoch {line['epoch']}: {exact} in trace.jsonl, {stored} in the database"
        latest = history.get(max(history))
        if latest is not None and not _are_same(latest, record.run.data.metrics[name]):
            yield f"metric {name}: {record.run.data.metrics[name]} is not the last value of its history"


def _in_checkpoint(record: Record, folder: Path, name: str) -> Iterator[str]:
    """Compares the hashes of a checkpoint's weights and optimizer with those in the trace."""
    try:
        held = torch.load(folder / name, weights_only=True, map_location="cpu")
        line = next((line for line in record.trace if line.get("epoch") == held["epoch"] + 1), None)
        hashes = {
            "weights": tensors_sha256(held["state_dict"]),
            "optimizer": optimizers_sha256(held["optimizer_states"]),
        }
    except Exception as error:  # torch raises many kinds for a damaged file
        yield f"{name}: cannot be read: {' '.join(str(error).split())[:200]}"
        return
    if line is None:
        yield f"{name}: trace.jsonl has no epoch {held['epoch'] + 1}"
        return
    for what, digest in hashes.items():
        if what in line and digest != line[what]:
            yield f"{name}: {what}: not what epoch {line['epoch']} has in trace.jsonl"


def _in_predictions(record: Record, folder: Path) -> Iterator[str]:
    """Compares the accuracy of the predicted labels with the metric, and the labels with the probabilities."""
    try:
        with np.load(folder / PREDICTIONS, allow_pickle=False) as archive:
            held = dict(archive)
    except (OSError, ValueError, KeyError) as error:
        yield f"{PREDICTIONS}: cannot be read: {error}"
        return
    for split in ("val", "test"):
        label, target = held.get(f"{split}_label"), held.get(f"{split}_target")
        if label is None or target is None:
            continue
        probabilities = held.get(f"{split}_probabilities")
        if probabilities is not None and not np.array_equal(probabilities.argmax(axis=1), label):
            yield f"{PREDICTIONS}: labels and probabilities of {split} differ"
        accuracy, told = float(np.mean(label == target)), _accuracies(record, split)
        if told and not any(abs(accuracy - value) <= _NEAR for value in told):
            yield f"{PREDICTIONS}: {accuracy:.6f} of the labels of {split} are right, the metric says {told[-1]:.6f}"


def _accuracies(record: Record, split: str) -> list[float]:
    """Returns the accuracies that the run may have kept: on val those of every epoch, as `best` may be any of them."""
    lines: list[Line] = [line for line in record.trace if f"{split}/accuracy" in line.get("metrics", {})]
    return [float.fromhex(line["metrics"][f"{split}/accuracy"]) for line in lines]


def _has_died(record: Record) -> bool:
    """Whether the run may have been killed between two writes, so that one of two places lacks what the other has."""
    return bool(record.run.info.status != "FINISHED")


def _are_same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)
