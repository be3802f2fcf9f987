"""Settings that only some kinds of sampler or pruner take: left null they have their kind's default."""

from collections.abc import Mapping
from typing import Any

from lightning_modules import InputError

Settings = Mapping[str, Mapping[str, Any]]  # kind → its settings, with their defaults


def check_settings(section: str, config: Any, settings: Settings, least: Mapping[str, float]) -> None:
    """Raises InputError for a setting of another kind, and for one below its least value."""
    for name, value in vars(config).items():
        if name == "kind" or value is None:
            continue
        if name not in settings[config.kind]:
            takes = ", ".join(kind for kind, taken in settings.items() if name in taken)
            remedy = f"set it to null, or choose {section}.kind from {takes}"
            raise InputError(f"{section}.{name}", value, f"is no setting of {config.kind}", remedy)
        if not value >= least[name]:
            raise InputError(f"{section}.{name}", value, f"must be {least[name]} or more", f"try {least[name]}")


def settings_of(config: Any, settings: Settings) -> dict[str, Any]:
    """The settings of the config's kind, as given or else as by default."""
    given = vars(config)
    return {name: default if given[name] is None else given[name] for name, default in settings[config.kind].items()}
