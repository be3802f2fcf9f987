"""What the names of runs, sweeps and experiments may be."""

from lightning_modules import InputError
from lightning_modules.showable import is_text

RUN, EXPERIMENT = 250, 500  # characters: what MLflow's databases hold of their names


def check_name(field: str, name: str, most: int = RUN) -> str:
    """Returns the name, of up to `most` characters. Raises InputError if databases cannot hold it."""
    if len(name) > most:
        raise InputError(field, name, f"has {len(name):,} characters, more than {most}", "choose a shorter name")
    if not is_text(name):
        message = "is not Unicode text: it has NUL or half of a surrogate pair"
        raise InputError(field, name, message, "choose a name of letters and digits")
    return name
