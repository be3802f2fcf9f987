"""program.pt2: the network with all that comes before it, as torch.export has recorded it when the run ended."""

import shutil
from pathlib import Path

from experiments.errors import CannotRun
from experiments.export.original import Original

PROGRAM = "program.pt2"
UNTRACEABLE = "torch.export cannot trace this network"


def write_program(original: Original, folder: Path) -> None:
    """Copies the run's own program; it is not traced again. Raises CannotRun if it holds no network."""
    if not original.is_traced:
        raise CannotRun(UNTRACEABLE)
    shutil.copyfile(original.program, folder / PROGRAM)
