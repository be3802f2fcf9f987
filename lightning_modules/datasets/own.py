"""The user's own source: a function at a dotted path that returns arrays."""

from collections.abc import Mapping
from typing import Any

from lightning_modules.datasets.arrays import from_arrays
from lightning_modules.datasets.base import ImageDataset, Source, SourceOptions
from lightning_modules.errors import InputError
from lightning_modules.plug import Plug


def own_source(path: str, args: Mapping[str, Any]) -> Source:
    """Returns the source at a dotted path. Raises InputError if there is none, or if it does not take `args`.

    The function there returns a mapping of arrays, named as in an .npz: `x` and `y`, or `x_train`, `y_train` and so on.
    """
    plug = Plug("data.source", path, args, "data.source_args")
    plug.check()

    def load(options: SourceOptions) -> ImageDataset:
        arrays = plug.make()
        if not isinstance(arrays, Mapping):
            remedy = "return {'x': images, 'y': labels}"
            raise InputError("data.source", path, f"returns {type(arrays).__name__}, not a mapping of arrays", remedy)
        return from_arrays(arrays, "data.source", path)

    return Source(summary=f"{path} of your own", load=load)
