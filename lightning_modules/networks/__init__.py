"""Networks, one per file. A network is an `nn.Module` built from `(image_shape, num_classes, **network_args)`.

It maps float images (N, C, H, W) to logits (N, K). To add one, write its file here. Or keep it in any importable file
and give its dotted path in the config (`my_package.my_file.MyNetwork`).
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lightning_modules.errors import InputError, choose_from
from lightning_modules.networks.baseline_cnn import BaselineCNN

__all__ = ["BaselineCNN", "build_network", "check_network", "find_network"]


def find_network(name: str) -> type[nn.Module]:
    """Returns the class of a network: a name from this folder, or a dotted path, also into the working directory."""
    module_name, _, class_name = name.rpartition(".")
    if not module_name:
        built_in = _built_in()
        found = built_in.get(name)
        if found is None:
            remedy = f"{choose_from(name, built_in)}, or give a dotted path such as my_file.MyNetwork"
            raise InputError("model.network", name, "no such network", remedy)
    elif module_name.partition(".")[0] in sys.stdlib_module_names:
        raise InputError("model.network", name, "is part of Python's own library, not a network", "name a network")
    else:
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)
        try:
            found = getattr(importlib.import_module(module_name), class_name)
        except Exception as error:  # the import runs the user's code, which may raise any exception
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            remedy = "check the dotted path; the working directory and installed packages are searched"
            raise InputError("model.network", name, f"cannot be imported: {reason}", remedy) from error
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise InputError("model.network", name, "is not a torch.nn.Module class", "give the class itself")
    return found


def _built_in() -> dict[str, type[nn.Module]]:
    """Returns the networks of this folder by name: every public class that one of its files defines."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    own = [value for module in modules for value in vars(module).values() if _is_network(value, module.__name__)]
    return {network.__name__: network for network in own if not network.__name__.startswith("_")}


def _is_network(value: object, module: str) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module


def check_network(name: str, args: Mapping[str, Any]) -> None:
    """Raises InputError if there is no such network, or if it does not accept these arguments."""
    _bind(find_network(name), name, args, partial=True)


def _bind(network: type[nn.Module], name: str, args: Mapping[str, Any], *, partial: bool) -> None:
    signature = inspect.signature(network)
    try:
        (signature.bind_partial if partial else signature.bind)((1, 1, 1), 1, **args)
    except TypeError as error:
        remedy = f"the signature is {name}{signature}"
        raise InputError("model.network_args", dict(args), str(error), remedy) from error


def build_network(name: str, args: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Builds a network for images of `image_shape` (C, H, W), after checking `args` against its signature."""
    network = find_network(name)
    _bind(network, name, args, partial=False)
    try:
        return network(image_shape, num_classes, **args)
    except Exception as error:  # the user's code may raise any exception
        remedy = f"change model.network_args, or the data (images are {image_shape}, {num_classes} classes)"
        reason = " ".join(str(error).split())
        raise InputError("model.network", name, f"cannot be built: {reason}", remedy) from error
