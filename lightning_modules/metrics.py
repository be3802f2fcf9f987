"""Defines every metric: its name, its direction, how it is computed and how it is shown. Add new metrics only here.

A metric is logged once per epoch as `{split}/{name}`. Loss and accuracy are summed batch by batch for all splits. Every
other metric is computed from all answers of a validation or test pass. The user's own metrics, which a recipe lists in
`trainer.metrics`, are computed from all answers of every split.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from lightning_modules.errors import InputError
from lightning_modules.plug import Plug

if TYPE_CHECKING:  # listing runs needs the directions but must not import torch
    from torch import Tensor

# Shapes: N images, K classes, B bins, D numbers of an image.
Direction = Literal["maximize", "minimize"]

_OFFERED = {"task": "multiclass", "num_classes": 2}  # what torchmetrics asks for; the number of classes is the data's
_INPUTS = 2  # of a function: probabilities and labels
BINS = 15  # bins of confidence, as in Guo et al. 2017


@dataclass(frozen=True)
class Answers:
    """A network's outputs for N images, `logits_NK`, and the true classes, `labels_N`."""

    logits_NK: "Tensor"
    labels_N: "Tensor"

    @cached_property
    def predicted_N(self) -> "Tensor":
        return self.logits_NK.argmax(dim=1)

    @cached_property
    def probabilities_NK(self) -> "Tensor":
        """In float32, on the CPU."""
        return self.logits_NK.float().softmax(dim=1).cpu()


def _only(means_D: "Tensor") -> "Tensor":
    return means_D[0]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. `compute` returns its value over all images of a pass, as a double on the CPU."""

    name: str  # `accuracy` is logged as `val/accuracy`
    title: str  # its name in a sentence: "test macro-F1 0.97"
    direction: Direction | None  # None: not known
    compute: Callable[[Answers], "Tensor"]
    is_summed: bool = False  # EpochScores sums it batch by batch
    bounds: tuple[float, float] = (-math.inf, math.inf)  # between which values lie
    is_relative: bool = False  # how close two values are depends on their ratio, not on their difference
    # The same value in another way, for tests that resample images: `terms` gives numbers (N, D) of each image, and
    # `of_means` the value from their means (D,) over images. None: only `compute` knows the metric.
    terms: Callable[[Answers], "Tensor"] | None = None
    of_means: Callable[["Tensor"], "Tensor"] = _only

    @property
    def sign(self) -> int:
        """1 if higher values are better, -1 if lower values are better, 0 if that is not known."""
        return {"maximize": 1, "minimize": -1, None: 0}[self.direction]


def _loss(answers: Answers) -> "Tensor":
    """Returns the mean cross-entropy."""
    return _losses(answers).mean()


def _losses(answers: Answers) -> "Tensor":
    """Returns the cross-entropy of each image, (N, 1)."""
    logs_NK = answers.logits_NK.cpu().double().log_softmax(dim=1)
    return -logs_NK.gather(1, answers.labels_N.cpu()[:, None])


def _accuracy(answers: Answers) -> "Tensor":
    return _hits(answers).mean()


def _hits(answers: Answers) -> "Tensor":
    return (answers.predicted_N == answers.labels_N).cpu().double()[:, None]


def macro_f1(answers: Answers) -> "Tensor":
    """Returns the mean F1, 2·hits / (images + predictions), over the classes that have images or predictions.

    The value equals scikit-learn's `f1_score(average="macro")` except in the last bit.
    """
    labels_N, predicted_N = answers.labels_N, answers.predicted_N
    images_K, predictions_K, hits_K = (
        classes.bincount(minlength=answers.logits_NK.shape[1]).cpu().double()
        for classes in (labels_N, predicted_N, labels_N[labels_N == predicted_N])
    )
    is_there_K = images_K + predictions_K > 0
    return (2 * hits_K[is_there_K] / (images_K + predictions_K)[is_there_K]).mean()


def _f1_terms(answers: Answers) -> "Tensor":
    """Returns whether the image is of a class, whether the class is predicted, and whether both: (N, 3K)."""
    import torch

    classes = answers.logits_NK.shape[1]
    labels_NK, predicted_NK = (
        torch.nn.functional.one_hot(each.cpu(), classes).double() for each in (answers.labels_N, answers.predicted_N)
    )
    return torch.cat([labels_NK, predicted_NK, labels_NK * predicted_NK], dim=1)


def _f1_of_means(means_D: "Tensor") -> "Tensor":
    images_K, predictions_K, hits_K = means_D.chunk(3)
    is_there_K = images_K + predictions_K > 0
    return (2 * hits_K[is_there_K] / (images_K + predictions_K)[is_there_K]).mean()


def _top3_accuracy(answers: Answers) -> "Tensor":
    return _top3_hits(answers).mean()


def _top3_hits(answers: Answers) -> "Tensor":
    """Returns 1 for each image whose true class has one of the three highest logits, 0 for the others, (N, 1)."""
    top_N3 = answers.logits_NK.topk(min(3, answers.logits_NK.shape[1]), dim=1).indices
    return (top_N3 == answers.labels_N[:, None]).any(dim=1).cpu().double()[:, None]


def _gap_of_means(means_B: "Tensor") -> "Tensor":
    return means_B.abs().sum()


def _calibration_error(answers: Answers) -> "Tensor":
    """Expected calibration error: the mean gap between confidence and accuracy over 15 bins, weighted by their images.

    Guo, Pleiss, Sun and Weinberger (2017), On calibration of modern neural networks, ICML. Bins include the upper end.
    """
    bin_N, gap_N = confidence(answers)
    gaps_B = bin_N.bincount(weights=gap_N, minlength=BINS)
    return gaps_B.abs().sum() / len(gap_N)


def confidence(answers: Answers) -> "tuple[Tensor, Tensor]":
    """Returns each image's bin, and its gap: 1 if it was labelled rightly, else 0, minus its confidence."""
    confidence_N = answers.probabilities_NK.double().max(dim=1).values
    return (confidence_N * BINS).ceil().long().clamp(1, BINS) - 1, _hits(answers)[:, 0] - confidence_N


def _gaps(answers: Answers) -> "Tensor":
    """Returns the gaps of the images, each in the column of its bin: (N, B)."""
    bin_N, gap_N = confidence(answers)
    return gap_N.new_zeros(len(gap_N), BINS).scatter_(1, bin_N[:, None], gap_N[:, None])


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="accuracy",
            title="accuracy",
            direction="maximize",
            bounds=(0, 1),
            compute=_accuracy,
            is_summed=True,
            terms=_hits,
        ),
        Metric(
            name="macro_f1",
            title="macro-F1",
            direction="maximize",
            bounds=(0, 1),
            compute=macro_f1,
            terms=_f1_terms,
            of_means=_f1_of_means,
        ),
        Metric(
            name="top3_accuracy",
            title="top-3 accuracy",
            direction="maximize",
            bounds=(0, 1),
            compute=_top3_accuracy,
            terms=_top3_hits,
        ),
        Metric(
            name="calibration_error",
            title="calibration error",
            direction="minimize",
            bounds=(0, 1),
            compute=_calibration_error,
            terms=_gaps,
            of_means=_gap_of_means,
        ),
        Metric(
            name="loss",
            title="loss",
            direction="minimize",
            bounds=(0, math.inf),
            compute=_loss,
            is_summed=True,
            is_relative=True,
            terms=_losses,
        ),
    )
}


def own_metrics(entries: Sequence[Any], field: str = "trainer.metrics") -> list[Metric]:
    """Returns the metrics at the dotted paths of a recipe. Raises InputError if one does not exist or fit.

    An entry is a dotted path, or `{kind: path, args: {…}, name: its logged name}`. The path names a class with `update`
    and `compute`, as those of torchmetrics, or a function; both take probabilities (N, K) and labels (N,).
    """
    metrics: list[Metric] = []
    for index, entry in enumerate(entries):
        given = dict(entry) if isinstance(entry, dict) else {}
        name = given.pop("name", None)
        plug = Plug.parse(f"{field}[{index}]", given or entry)
        plug.check(_OFFERED, _INPUTS)
        name = name or _snake_case(plug.path.rpartition(".")[2])
        if name in METRICS or any(metric.name == name for metric in metrics):
            remedy = "write {kind: …, name: another_name}"
            raise InputError(f"{field}[{index}].name", name, "is the name of another metric", remedy)
        higher = getattr(plug.function(_OFFERED), "higher_is_better", None)
        direction: Direction | None = None if higher is None else "maximize" if higher else "minimize"
        metrics.append(Metric(name=name, title=name.replace("_", " "), direction=direction, compute=_Own(plug)))
    return metrics


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@dataclass(frozen=True)
class _Own:
    """Computes a metric of the user's own."""

    plug: Plug

    def __call__(self, answers: Answers) -> "Tensor":
        import torch

        metric: Any = self.plug.function(_OFFERED | {"num_classes": answers.logits_NK.shape[1]})
        labels_N = answers.labels_N.cpu()
        if hasattr(metric, "update"):
            metric.update(answers.probabilities_NK, labels_N)
            value = metric.compute()
        else:
            value = metric(answers.probabilities_NK, labels_N)
        value = torch.as_tensor(value, dtype=torch.float64).cpu()
        if value.dim() > 0:
            message, remedy = f"gives {tuple(value.shape)} values, not one", "let it average, or choose another"
            raise InputError(self.plug.field, self.plug.path, message, remedy)
        return value


def find_metric(logged: str) -> Metric | None:
    """Returns the metric for a logged name such as `val/accuracy`; None for any other name."""
    split, _, name = logged.partition("/")
    return METRICS.get(name) if split in {"train", "val", "test"} else None


def bounds_of(logged: str) -> tuple[float, float]:
    """Returns between which values a metric lies, by its logged name such as `val/accuracy`."""
    metric = find_metric(logged)
    return (-math.inf, math.inf) if metric is None else metric.bounds


def sign_of(logged: str) -> int:
    """Returns the sign of the metric for a logged name such as `val/accuracy`; 0 for any other name."""
    metric = find_metric(logged)
    return 0 if metric is None else metric.sign


def on_test(logged: str) -> str | None:
    """Returns the name of a metric on test: of `val/accuracy` `test/accuracy`, of `val_mae` `test_mae`; else None."""
    return f"test{logged[len('val') :]}" if logged.startswith(("val/", "val_")) else None


def of_test(logged: str) -> str:
    """Returns NAME of a metric `test/NAME` or `test_NAME`; of any other, nothing."""
    return logged[len("test/") :] if logged.startswith(("test/", "test_")) else ""


def monitors() -> list[str]:
    """Returns the names that a run may use as its objective: every metric on the validation split."""
    return [f"val/{name}" for name in METRICS]
