"""Settings that only some kinds of sampler or pruner have. A null setting has its kind's default."""

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Mapping[str, Any]]  # kind → its settings, with their defaults


def settings_of(config: Any, settings: Settings) -> dict[str, Any]:
    """Returns the settings of the config's kind: the given values, and the defaults for the rest."""
    given = vars(config)
    return {name: default if given[name] is None else given[name] for name, default in settings[config.kind].items()}
