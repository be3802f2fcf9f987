"""When a sweep gives up, rather than go on failing."""

import re

from optuna.trial import FrozenTrial

from sweeps.errors import SweepStoppedError

_ENOUGH = 8  # trials, of which each may fail by its own bad luck; so many alike have a common cause


class FirstFailures:
    """Looks at the first trials that a start of a sweep brings to an end, until they differ."""

    def __init__(self) -> None:
        self._errors: list[str] | None = []

    def see(self, trial: FrozenTrial) -> None:
        """Raises SweepStoppedError once `_ENOUGH` have all failed in the same way, whatever the numbers in it."""
        if self._errors is None or trial.user_attrs["outcome"] in {"died", "interrupted"}:
            return
        self._errors.append(trial.user_attrs.get("error", ""))
        ways = {re.sub(r"\d[\d.e+-]*", "#", error) for error in self._errors}
        if trial.user_attrs["outcome"] != "failed" or len(ways) > 1:
            self._errors = None
        elif len(self._errors) == _ENOUGH:
            raise SweepStoppedError(f"the first {_ENOUGH} trials all failed: {self._errors[-1]}")
