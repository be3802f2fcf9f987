"""What the names of runs, sweeps and experiments may be."""

from lightning_modules import InputError
from lightning_modules.showable import is_text

_LONGEST = 250  # characters: what MLflow's databases hold of a run's name


def check_name(field: str, name: str) -> str:
    """Returns the name. Raises InputError if databases cannot hold it."""
    if len(name) > _LONGEST:
        raise InputError(field, name, f"has {len(name):,} characters, more than {_LONGEST}", "choose a shorter name")
    if not is_text(name):
        message = "is not Unicode text: it has NUL or half of a surrogate pair"
        raise InputError(field, name, message, "choose a name of letters and digits")
    return name
