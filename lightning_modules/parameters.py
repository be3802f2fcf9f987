"""Picks a network's parameters by patterns of their names, freezes them, and loads given weights."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_modules.errors import InputError, choose_from
from lightning_modules.log import LOG

_PREFIX = "network."  # of the network's weights in a checkpoint of ImageClassifier


def matching(field: str, pattern: str, network: nn.Module) -> list[str]:
    """Returns the names of the parameters that match `pattern`: `*` stands for anything, `?` for one character.

    Raises InputError if there are none.
    """
    names = [name for name, _ in network.named_parameters()]
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise InputError(field, pattern, "matches no parameter of the network", choose_from(pattern, names))
    return found


def freeze(network: nn.Module, patterns: Sequence[str]) -> None:
    """Stops the training of the parameters that match one of the patterns."""
    for index, pattern in enumerate(patterns):
        for name in matching(f"model.freeze[{index}]", pattern, network):
            network.get_parameter(name).requires_grad_(False)
    if not any(weights.requires_grad for weights in network.parameters()):
        raise InputError("model.freeze", list(patterns), "leaves nothing to train", "freeze fewer parameters")


def load_given(network: nn.Module, path: Path) -> None:
    """Loads the weights in a .safetensors file or a checkpoint into the network, and says which ones did not fit.

    Those whose name and shape are the network's are loaded. Raises InputError if there are none.
    """
    given = _read(path)
    own = network.state_dict()
    fitting = {name: values for name, values in given.items() if name in own and values.shape == own[name].shape}
    if not fitting:
        message = f"none of its {len(given)} tensors has a name and a shape of the network's"
        raise InputError("model.weights", str(path), message, f"the network has {', '.join(list(own)[:5])} …")
    network.load_state_dict(fitting, strict=False)
    if len(fitting) == len(own) == len(given):
        LOG.info(f"starts from all {len(own)} tensors of {path}")
    else:
        left = ", ".join([name for name in own if name not in fitting][:5])
        LOG.info(f"starts from {len(fitting)} of {len(own)} tensors of {path}; new are {left or 'none'}")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights: dict[str, Tensor] = load_file(path)
            return weights
        loaded = torch.load(path, weights_only=True, map_location="cpu")
        named = dict(loaded.get("state_dict", loaded))
    except Exception as error:  # torch, pickle and safetensors raise many kinds
        reason = " ".join(str(error).split())[:200]
        remedy = "give a .safetensors file or a checkpoint of weights"
        raise InputError("model.weights", str(path), f"cannot be read: {reason}", remedy) from error
    return {str(name).removeprefix(_PREFIX): value for name, value in named.items() if isinstance(value, Tensor)}
