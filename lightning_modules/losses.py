"""Losses: `cross_entropy`, `mse`, and any at a dotted path."""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lightning_modules.errors import InputError, choose_from
from lightning_modules.plug import Plug

# Shapes: N images, K classes.
# A loss of the user's own maps logits (N, K) and labels (N,) to their mean loss, or to one loss per image (N,).
Loss = Callable[[Tensor, Tensor], Tensor]

_INPUTS = 2  # logits and labels


def _brier(logits_NK: Tensor, labels_N: Tensor, reduction: str) -> Tensor:
    targets_NK = F.one_hot(labels_N, logits_NK.shape[1]).to(logits_NK.dtype)
    return F.mse_loss(logits_NK.softmax(dim=1), targets_NK, reduction=reduction)


BUILT_IN: dict[str, Callable[..., Tensor]] = {"cross_entropy": F.cross_entropy, "mse": _brier}


def check_loss(name: str, args: Mapping[str, Any]) -> None:
    """Raises InputError if there is no such loss, or if it does not take these arguments."""
    if "." in name:
        _plug(name, args).check(["num_classes"], _INPUTS)
    elif name not in BUILT_IN:
        remedy = f"{choose_from(name, BUILT_IN)}, or give a dotted path such as torch.nn.MultiMarginLoss"
        raise InputError("model.loss", name, "no such loss", remedy)
    elif args:
        raise InputError("model.loss_args", dict(args), f"{name} takes no arguments", "leave them out")


def build_loss(name: str, args: Mapping[str, Any], num_classes: int) -> Loss | str:
    """Returns the loss as `mean_loss` takes it: a name, or an instance or function of the user's own."""
    return _plug(name, args).function({"num_classes": num_classes}) if "." in name else name


def mean_loss(loss: Loss | str, logits_NK: Tensor, labels_N: Tensor, weights_K: Tensor | None = None) -> Tensor:
    """Returns the mean loss over the images, each multiplied by the weight of its class if there are weights."""
    if isinstance(loss, str):
        losses = BUILT_IN[loss](logits_NK, labels_N, reduction="mean" if weights_K is None else "none")
    else:
        losses = loss(logits_NK, labels_N)
    if weights_K is not None:
        if losses.dim() == 0:
            message, remedy = "gives one loss for all images", "let it return one loss per image, or leave them out"
            raise InputError("model.class_weights", "balanced", f"the loss {message}", remedy)
        losses = weights_K[labels_N] * losses.reshape(len(labels_N), -1).mean(dim=1)
    return losses if losses.dim() == 0 else losses.mean()


def _plug(name: str, args: Mapping[str, Any]) -> Plug:
    return Plug("model.loss", name, args, "model.loss_args")
