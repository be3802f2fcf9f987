"""Modules of the user's own, for any task: a LightningModule and a LightningDataModule, by dotted paths in the config.

docs/own_task.md says what a module may offer beside what Lightning asks for.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from lightning_modules.config import check_alone
from lightning_modules.errors import InputError
from lightning_modules.plug import Plug


@dataclass(frozen=True)
class OwnPart:
    """A config section whose field `module` may name a class, or a function that makes an instance of it."""

    section: str
    kind: type
    offered: tuple[str, ...]  # what it gets beside its `module_args`, if its signature names it
    beside: Collection[str] = ()  # the fields of the section that still have an effect

    def check(self, config: Any) -> None:
        """Raises InputError if the part does not take its arguments, or if fields are set that have no effect."""
        if config.module is not None:
            self._plug(config).check(self.offered)
            check_alone(self.section, config, "module", ["module_args", *self.beside])
        elif config.module_args:
            remedy = f"name it in {self.section}.module, or leave the arguments out"
            raise InputError(f"{self.section}.module_args", config.module_args, "there is no module", remedy)

    def make(self, config: Any, offered: Mapping[str, Any]) -> Any:
        """Returns a new instance. Raises InputError if that fails."""
        plug = self._plug(config)
        made = plug.make({name: offered[name] for name in self.offered if name in offered})
        if not isinstance(made, self.kind):
            raise InputError(plug.field, plug.path, f"makes {type(made).__name__}", f"name a {self.kind.__name__}")
        return made

    def _plug(self, config: Any) -> Plug:
        return Plug(f"{self.section}.module", config.module, config.module_args, f"{self.section}.module_args")


# On images, a module may ask for the shape (C, H, W) of one, and for the classes.
OWN_MODULE = OwnPart("model", pl.LightningModule, ("image_shape", "num_classes", "class_names"))
OWN_DATA = OwnPart("data", pl.LightningDataModule, ("seed", "split_seed"), beside=["split_seed"])
