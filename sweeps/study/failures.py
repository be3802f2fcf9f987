"""Stops a sweep whose first trials all fail with the same error."""

import re

from optuna.trial import FrozenTrial

from sweeps.errors import SweepStoppedError

_LIMIT = 8  # trials: one may fail because of its own settings, but eight equal failures have a common cause


class FirstFailures:
    """Watches the first trials that end after a sweep starts, until one of them ends in another way."""

    def __init__(self) -> None:
        self._errors: list[str] | None = []

    def see(self, trial: FrozenTrial) -> None:
        """Raises SweepStoppedError once `_LIMIT` trials have failed with one message; numbers in it may differ."""
        if self._errors is None or trial.user_attrs["outcome"] in {"died", "interrupted"}:
            return
        self._errors.append(trial.user_attrs.get("error", ""))
        messages = {re.sub(r"\d[\d.e+-]*", "#", error) for error in self._errors}
        if trial.user_attrs["outcome"] != "failed" or len(messages) > 1:
            self._errors = None
        elif len(self._errors) == _LIMIT:
            raise SweepStoppedError(f"the first {_LIMIT} trials all failed: {self._errors[-1]}")
