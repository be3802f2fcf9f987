"""One run: configured, tracked in MLflow, listed, compared. Knows lightning_modules and MLflow; nothing of Optuna."""

import os

# Read when mlflow is imported: no telemetry, no notices, no bars of its own.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from experiments.config import ExperimentConfig, TrainerConfig, load_config
from experiments.runner import RunResult, run
from experiments.store import Store

__all__ = ["ExperimentConfig", "RunResult", "Store", "TrainerConfig", "load_config", "run"]
