"""Finds the faults of a data set, and reports or drops the images, or raises an error, as configured."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice, pairwise
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from lightning_modules.config import section
from lightning_modules.datasets import ImageDataset, LabelledImages
from lightning_modules.errors import InputError
from lightning_modules.pipeline.splits import Subset

Policy = Literal["report", "drop", "fail"]
ReportOrFail = Literal["report", "fail"]

_EXAMPLES = 100  # listed per finding
_IMBALANCE = 10  # a class is rare if the largest class has more than this many times its images
_RANGES_DIFFER = 4  # a split's range differs from train's if its maximum is this many times higher or lower
_MOST_PROTECTED = ("test", "val", "train")  # a copy is dropped from the last of these splits that has it
_IN_ONE_LINE = 5  # examples in an error message


@section("data.cleaning")
class CleaningConfig:
    """What to do about each fault: `report` it, `drop` the images from their split and report it, or `fail`.

    Each field is a kind of finding. The splits are made first, and no image moves between them.
    """

    unreadable: Policy = "fail"
    """Files that are not usable pictures: damaged, links out of the folder, too large."""

    other_files: Policy = "report"
    """Files that are no pictures by their names, such as notes.txt. They are never used."""

    non_finite: Policy = "fail"
    """Images with NaN or Inf."""

    leaks: Policy = "report"
    """Exact copies of an image of val or test; drop: from train, or from val."""

    duplicates: Policy = "report"
    """Copies within a split; drop: all but the first."""

    conflicting_labels: Policy = "report"
    """Copies of one image with different labels; drop: all of them."""

    constant: Policy = "report"
    """Images whose pixels all have one value."""

    missing_classes: ReportOrFail = "report"
    """Classes without images in a split. Train must have all classes."""

    imbalance: ReportOrFail = "report"
    """Classes with less than a tenth of the images of the largest class."""

    label_gaps: ReportOrFail = "report"
    """Whole numbers missing between the lowest and the highest label."""

    value_range: ReportOrFail = "report"
    """Floats that are already scaled, bytes all below 128, splits with different ranges."""

    value_type: ReportOrFail = "report"
    """Whole numbers stored as floats, splits with different types."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of fault in one split: `count` images, files, classes or values. `examples` lists the first of them."""

    kind: str
    split: str
    count: int
    message: str
    examples: list[dict[str, Any]]
    policy: str
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """The splits as a run uses them, and all faults that were found before anything was dropped."""

    splits: dict[str, dict[str, Any]]  # split → count, shape (H, W, C), dtype, classes {name: count}, dropped
    findings: list[Finding]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def clean(
    dataset: ImageDataset, splits: Mapping[str, Subset], config: CleaningConfig
) -> tuple[dict[str, Subset], DataReport]:
    """Returns the splits without the dropped images, and the report. Raises InputError for a fault with policy fail."""
    images = _Images.of(dataset, splits)
    is_dropped = np.zeros(len(images.labels), bool)
    findings = list(_refused(dataset))
    for kind, (found, message, same_as) in _image_faults(images).items():
        findings += images.findings(kind, found, message, same_as)
        if getattr(config, kind) == "drop":
            is_dropped |= found
    findings += [*_about_classes(dataset, splits), *_about_values(images, splits)]
    findings = [_apply_policy(finding, getattr(config, finding.kind)) for finding in findings]
    order = [field.name for field in fields(CleaningConfig)]
    findings.sort(key=lambda finding: (order.index(finding.kind), -_MOST_PROTECTED.index(finding.split)))
    kept = {split: images.kept(split, subset, ~is_dropped) for split, subset in splits.items()}
    summaries = {split: _summary(dataset, kept[split], len(subset)) for split, subset in splits.items()}
    return kept, DataReport(splits=summaries, findings=findings)


def _apply_policy(finding: Finding, policy: str) -> Finding:
    if policy == "fail":
        shown = ", ".join(_in_words(example) for example in finding.examples[:_IN_ONE_LINE])
        more = ", …" if finding.count > _IN_ONE_LINE else ""
        message = f"{finding.count} in {finding.split}: {finding.message}: {shown}{more}"
        choices = get_args(get_type_hints(CleaningConfig)[finding.kind])
        remedy = f"fix them, or set it to {' or '.join(choice for choice in choices if choice != 'fail')}"
        raise InputError(f"data.cleaning.{finding.kind}", "fail", message, remedy)
    return replace(finding, policy=policy, dropped=finding.count if policy == "drop" else 0)


def _in_words(example: Mapping[str, Any]) -> str:
    what = example.get("file", example.get("index", example.get("class", "")))
    return " ".join(str(part) for part in (what, example.get("what", "")) if part != "")


def _summary(dataset: ImageDataset, kept: Subset, before: int) -> dict[str, Any]:
    counts = np.bincount(kept.targets, minlength=len(dataset.class_names)).tolist()
    return {
        "count": len(kept),
        "shape": list(kept.images.shape[1:]),
        "dtype": str(kept.images.dtype),
        "classes": dict(zip(dataset.class_names, counts, strict=True)),
        "dropped": before - len(kept),
    }


# Faults of single images.


@dataclass(frozen=True)
class _Images:
    """All M images of all splits: the most protected split first, and each split in its own order."""

    class_names: Sequence[str]
    parts: Mapping[str, LabelledImages]  # split → the part of the data set that contains its images
    splits: NDArray[np.int64]  # the position of the image's split in `parts`; (M,), as are all below
    indices: NDArray[np.int64]  # within the part
    labels: NDArray[np.int64]
    low: NDArray[Any]
    high: NDArray[Any]
    originals: NDArray[np.int64]  # the position of the first image with equal pixels; its own if it is the first

    @staticmethod
    def of(dataset: ImageDataset, splits: Mapping[str, Subset]) -> "_Images":
        names = [split for split in _MOST_PROTECTED if split in splits]
        parts = {
            split: next(part for part in dataset.parts.values() if part.images is splits[split].images)
            for split in names
        }
        chosen = [(parts[split], splits[split].indices) for split in names]
        hashes = np.concatenate([part.content.hashes[indices] for part, indices in chosen])
        return _Images(
            class_names=dataset.class_names,
            parts=parts,
            splits=np.repeat(np.arange(len(names)), [len(splits[split]) for split in names]),
            indices=np.concatenate([indices for _, indices in chosen]),
            labels=np.concatenate([part.labels[indices] for part, indices in chosen]),
            low=np.concatenate([part.content.low[indices] for part, indices in chosen]),
            high=np.concatenate([part.content.high[indices] for part, indices in chosen]),
            originals=_originals(hashes, chosen),
        )

    def of_split(self, split: str) -> NDArray[np.bool_]:
        """Returns a mask (M,) of the images in the split."""
        is_in: NDArray[np.bool_] = self.splits == [*self.parts].index(split)
        return is_in

    def kept(self, split: str, subset: Subset, is_kept: NDArray[np.bool_]) -> Subset:
        """Returns the split without the dropped images. Raises InputError if none is left."""
        indices = subset.indices[is_kept[self.of_split(split)]]
        if not len(indices):
            raise InputError("data.cleaning", "drop", f"leaves no image in {split}", "use report instead of drop")
        return Subset(subset.images, subset.labels, indices)

    def findings(
        self, kind: str, found: NDArray[np.bool_], message: str, same_as: NDArray[np.int64] | None
    ) -> Iterator[Finding]:
        for split in self.parts:
            places = np.flatnonzero(found & self.of_split(split))
            if len(places):
                examples = [self._example(place, same_as) for place in places[:_EXAMPLES]]
                yield Finding(
                    kind=kind, split=split, count=len(places), message=message, examples=examples, policy="report"
                )

    def _example(self, place: int, same_as: NDArray[np.int64] | None) -> dict[str, Any]:
        split, index = [*self.parts][self.splits[place]], int(self.indices[place])
        names = self.parts[split].names
        told: dict[str, Any] = {"index": index, **({} if names is None else {"file": names[index]})}
        told["class"] = self.class_names[self.labels[place]]
        if same_as is not None:
            other = same_as[place]
            told["same_as"] = {"split": [*self.parts][self.splits[other]], **self._example(other, None)}
        return told


_Fault = tuple[NDArray[np.bool_], str, NDArray[np.int64] | None]  # mask of images, message, what each is a copy of


def _image_faults(images: _Images) -> dict[str, _Fault]:
    """Returns the faults of single images, by kind of finding."""
    is_finite = np.isfinite(images.low) & np.isfinite(images.high)
    originals, labels, places = images.originals, images.labels, np.arange(len(images.labels))
    is_leak = images.splits != images.splits[originals]
    firsts = _firsts(originals, images.splits)
    is_other = labels != labels[originals]
    others = np.arange(len(labels))  # per original: a copy with another label, or itself if there is none
    others[originals[is_other]] = places[is_other]
    is_conflict = others[originals] != originals
    conflicts = np.where(is_other, originals, others[originals])
    return {
        "non_finite": (~is_finite, "NaN or Inf", None),
        "leaks": (is_leak, "the same image is in val or test too", originals),
        "duplicates": (firsts != places, "the same image occurs earlier in the split", firsts),
        "conflicting_labels": (is_conflict, "the same image has another label", conflicts),
        "constant": (is_finite & (images.low == images.high), "all pixels have one value", None),
    }


def _originals(
    hashes: NDArray[np.uint64], chosen: Sequence[tuple[LabelledImages, NDArray[np.int64]]]
) -> NDArray[np.int64]:
    """Returns, per image, the position of the first equal image. Equal hashes are confirmed with a longer hash."""
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    originals = np.arange(len(hashes))
    starts = np.cumsum([0, *(len(indices) for _, indices in chosen)])
    first: dict[bytes, int] = {}
    for place in np.flatnonzero(counts[inverse] > 1):
        number = int(np.searchsorted(starts, place, side="right")) - 1
        part, indices = chosen[number]
        image = np.ascontiguousarray(part.images[indices[place - starts[number]]])
        originals[place] = first.setdefault(hashlib.blake2b(image.data, digest_size=16).digest(), int(place))
    return originals


def _firsts(originals: NDArray[np.int64], splits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns, per image, the position of the first equal image in its own split."""
    pairs = originals * len(_MOST_PROTECTED) + splits
    _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
    firsts: NDArray[np.int64] = first[inverse]
    return firsts


def _refused(dataset: ImageDataset) -> Iterator[Finding]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in dataset.refused:
        kind = "other_files" if file.is_other else "unreadable"
        found.setdefault((kind, file.split), []).append({"file": file.name, "what": file.reason})
    for (kind, split), files in found.items():
        yield from _finding_if_any(kind, split, "files that are not usable pictures", files)


# Faults of splits and classes.


def _about_classes(dataset: ImageDataset, splits: Mapping[str, Subset]) -> Iterator[Finding]:
    names = dataset.class_names
    for split, subset in splits.items():
        counts = np.bincount(subset.targets, minlength=len(names))
        told = [{"class": name, "what": f"{count} images"} for name, count in zip(names, counts, strict=True)]
        missing = [example for example, count in zip(told, counts, strict=True) if count == 0]
        rare = [example for example, count in zip(told, counts, strict=True) if 0 < count * _IMBALANCE < counts.max()]
        yield from _finding_if_any("missing_classes", split, "classes without an image", missing)
        yield from _finding_if_any("imbalance", split, f"the largest class has {counts.max()} images", rare)
    if all(name.removeprefix("-").isdecimal() for name in names):
        numbers = sorted(int(name) for name in names)
        count = numbers[-1] - numbers[0] + 1 - len(set(numbers))
        gaps = (number for low, high in pairwise(numbers) for number in range(low + 1, high))
        examples = [{"class": str(number)} for number in islice(gaps, _EXAMPLES)]
        yield from _finding_if_any("label_gaps", "train", "missing labels between others", examples, count)


def _about_values(images: _Images, splits: Mapping[str, Subset]) -> Iterator[Finding]:
    extremes = {split: _extremes(images, split) for split in images.parts}
    highest = {split: high for split, (_, high) in extremes.items()}
    for split, subset in splits.items():
        dtype, train = subset.images.dtype, splits["train"].images.dtype
        low, high = extremes[split]
        is_float = dtype.kind == "f"
        surprise = ""
        if is_float and low < 0:
            surprise = "below 0: standardized already?"
        elif high <= 1:
            surprise = "none above 1: scaled already?" if is_float else "none above 1"
        elif not is_float and high < 128:
            surprise = "but the type allows values up to 255"
        ratio = (high or 1) / (highest["train"] or 1)
        if not 1 / _RANGES_DIFFER < ratio < _RANGES_DIFFER:
            surprise = f"but train has values up to {highest['train']:g}"
        if surprise:
            examples = [{"what": f"{low:g} to {high:g}, {surprise}"}]
            yield from _finding_if_any("value_range", split, "values", examples, len(subset))
        if dtype != train:
            yield from _finding_if_any("value_type", split, f"train is {train}", [{"what": str(dtype)}], len(subset))
        elif is_float and images.parts[split].content.is_whole and low >= 0 and high <= 255:
            examples = [{"what": f"{dtype}, but uint8 would take a quarter of the memory"}]
            yield from _finding_if_any("value_type", split, "whole numbers from 0 to 255", examples, len(subset))


def _extremes(images: _Images, split: str) -> tuple[float, float]:
    """Returns the lowest and the highest finite value, or 0, 0 if there is none."""
    low, high = (values[images.of_split(split)] for values in (images.low, images.high))
    low, high = low[np.isfinite(low)], high[np.isfinite(high)]
    return float(low.min()) if len(low) else 0.0, float(high.max()) if len(high) else 0.0


def _finding_if_any(
    kind: str, split: str, message: str, examples: list[dict[str, Any]], count: int | None = None
) -> Iterator[Finding]:
    count = len(examples) if count is None else count
    if count:
        yield Finding(
            kind=kind, split=split, count=count, message=message, examples=examples[:_EXAMPLES], policy="report"
        )
