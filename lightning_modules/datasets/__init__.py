"""Sources of images, one per file. To add one, write a file here that defines `SOURCES`: name → `Source`."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lightning_modules.datasets.base import ImageDataset, Images, LabelledImages, RefusedFile, Source, SourceOptions
from lightning_modules.datasets.own import own_source
from lightning_modules.errors import InputError, choose_from

__all__ = [
    "ImageDataset",
    "Images",
    "LabelledImages",
    "RefusedFile",
    "Source",
    "SourceOptions",
    "all_sources",
    "find_source",
]


def all_sources() -> dict[str, Source]:
    """Returns every source by its name in `data.source`."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return {name: source for module in modules for name, source in getattr(module, "SOURCES", {}).items()}


def find_source(name: str, args: Mapping[str, Any] = MappingProxyType({})) -> Source:
    """Returns the source of a name or at a dotted path. Raises InputError if there is none that takes `args`."""
    if "." in name:
        return own_source(name, args)
    sources = all_sources()
    if name not in sources:
        remedy = f"{choose_from(name, sources)}, or give the dotted path of a function"
        raise InputError("data.source", name, "no such data set", remedy)
    if args:
        raise InputError("data.source_args", dict(args), f"{name} takes no arguments", "leave them out")
    return sources[name]
