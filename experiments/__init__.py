"""One run: configured, tracked in MLflow, listed, compared. Knows lightning_modules and MLflow; nothing of Optuna.

The public names stand in `__init__.pyi`; each is imported only once it is used: listing runs needs no torch.
"""

import os

from lightning_modules.lazy import attach_stub

# Read when mlflow is imported: no telemetry, no notices, no bars of its own.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Read at every request: MLflow's own patience, minutes without a word, would hold up training. See Store.persist.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

__getattr__, __all__ = attach_stub(__name__, __file__)
