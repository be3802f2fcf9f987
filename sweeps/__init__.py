"""Many runs: a search over a recipe's fields, its trials tracked, its winner tested. Knows experiments and Optuna."""

from sweeps.config import Sweep, SweepConfig, load_sweep
from sweeps.run import run

__all__ = ["Sweep", "SweepConfig", "load_sweep", "run"]
