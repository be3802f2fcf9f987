"""Searches a recipe's fields, tracks each trial as a run, and tests the champion. Knows experiments and Optuna."""

from sweeps.config import Sweep, SweepConfig, load_sweep
from sweeps.run import run

__all__ = ["Sweep", "SweepConfig", "load_sweep", "run"]
