"""Networks, one per file. A network is an `nn.Module` that maps float images (N, C, H, W) to logits (N, K).

To add one, write its file here. Or give the dotted path of a class or of a function that returns a network: from your
own file (`my_file.Net`) or from a package (`timm.create_model`).
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lightning_modules.errors import InputError, choose_from
from lightning_modules.networks.baseline_cnn import BaselineCNN
from lightning_modules.plug import Plug, needed, takes_any

__all__ = ["BaselineCNN", "build_network", "built_in", "check_network", "find_network"]

Shape = tuple[int, int, int]  # channels, height, width

# What a network is offered. It gets those arguments that its signature names, unless `network_args` holds them.
_OFFERED = ("image_shape", "num_classes", "in_channels", "in_chans")
# What a signature with `**kwargs` is offered besides, until it takes it: torchvision takes one of them, timm both.
_OFFERED_TO_ANY = (("num_classes", "in_chans"), ("num_classes", "in_channels"), ("num_classes",), ())


def find_network(name: str) -> Callable[..., nn.Module]:
    """Returns the class or function of a network: a name from this folder, or a dotted path."""
    if "." in name:
        return _plug(name, {}).target
    known = built_in()
    if name not in known:
        remedy = f"{choose_from(name, known)}, or give a dotted path such as my_file.MyNetwork"
        raise InputError("model.network", name, "no such network", remedy)
    return known[name]


def built_in() -> dict[str, type[nn.Module]]:
    """Returns the networks of this folder by name: every public class that one of its files defines."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    own = [value for module in modules for value in vars(module).values() if _is_network(value, module.__name__)]
    return {network.__name__: network for network in own if not network.__name__.startswith("_")}


def _is_network(value: object, module: str) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module


def check_network(name: str, args: Mapping[str, Any]) -> None:
    """Raises InputError if there is no such network, or if it does not take these arguments."""
    part = _plug(name, args)
    part.check((*_OFFERED, *_by_position(part)))


def build_network(name: str, args: Mapping[str, Any], image_shape: Shape, num_classes: int) -> nn.Module:
    """Builds a network for images of `image_shape` and `num_classes` classes. Raises InputError if that fails.

    Lazy layers get their shapes from two images of zeros.
    """
    network, _ = _make(_plug(name, args), image_shape, num_classes)
    if not isinstance(network, nn.Module):
        message = f"makes {type(network).__name__}, which is not a torch.nn.Module"
        raise InputError("model.network", name, message, "name a class or a function that makes one")
    if any(is_lazy(parameter) for parameter in network.parameters()):
        with torch.no_grad():
            network(torch.zeros(2, *image_shape))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError("model.network", name, "has no parameters to train", "give it layers with weights")
    return network


def _plug(name: str, args: Mapping[str, Any]) -> Plug:
    """Returns the network as a plug; a name of this folder stands for its dotted path."""
    path = name if "." in name else f"{find_network(name).__module__}.{name}"
    return Plug("model.network", path, args, "model.network_args", name)


def network_call(
    name: str, args: Mapping[str, Any], image_shape: Shape, num_classes: int
) -> tuple[str, dict[str, Any]]:
    """Returns the dotted path and all arguments of the call that makes a network."""
    part = _plug(name, args)
    return part.path, _make(part, image_shape, num_classes)[1]


def _make(part: Plug, image_shape: Shape, num_classes: int) -> tuple[Any, dict[str, Any]]:
    """Makes a network, and returns it with its arguments.

    A signature with `**kwargs` gets as many of `_OFFERED_TO_ANY` as it accepts.
    """
    offered: dict[str, Any] = dict(
        zip(_OFFERED, (image_shape, num_classes, image_shape[0], image_shape[0]), strict=True)
    )
    offered |= zip(_by_position(part), (image_shape, num_classes), strict=False)
    state = torch.get_rng_state()
    for names in _OFFERED_TO_ANY if takes_any(part.target) else [()]:
        more = {name: offered[name] for name in names if name not in part.args}
        tried = replace(part, args={**more, **part.args})
        try:
            return tried.make(offered), tried.arguments(offered)
        except InputError as error:
            if not names or "unexpected keyword argument" not in error.message:
                raise
        torch.set_rng_state(state)
    raise AssertionError("the last of _OFFERED_TO_ANY is empty")


def _by_position(part: Plug) -> list[str]:
    """Returns the first two arguments of a network that calls image_shape and num_classes by other names."""
    first = [name for name in needed(part.target) if name not in part.args][:2]
    return first if len(first) == 2 and not set(_OFFERED) & set(first) else []
