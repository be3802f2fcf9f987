"""Searches a recipe's fields, tracks each trial as a run, and tests the champion. Knows experiments and Optuna.

`repeat` trains one configuration over several seeds or folds.
"""

from sweeps.config import Sweep, SweepConfig, load_sweep
from sweeps.repeats.result import RepeatsResult
from sweeps.repeats.run import repeat
from sweeps.run import run

__all__ = ["RepeatsResult", "Sweep", "SweepConfig", "load_sweep", "repeat", "run"]
