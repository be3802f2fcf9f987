"""Sources of images, one per file. To add one, write a file here that defines `SOURCES`: name → `Source`."""

import importlib
import pkgutil

from lightning_modules.datasets.base import ImageDataset, Images, LabelledImages, RefusedFile, Source, SourceOptions
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


def find_source(name: str) -> Source:
    """Returns the source of this name. Raises InputError if there is none."""
    sources = all_sources()
    if name not in sources:
        raise InputError("data.source", name, "no such data set", choose_from(name, sources))
    return sources[name]
