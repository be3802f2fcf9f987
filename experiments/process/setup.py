"""What a process needs set before it trains, tracks or sweeps. Importing a module sets nothing."""

import logging
import os
import sys
import warnings

from lightning_modules.log import LOG

_VARIABLES = {
    # MLflow: no telemetry, no notices, no progress bars of its own.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own retries take minutes, say nothing, and would hold up training: Store.persist tries again instead.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Ray: nobody joins without the token, nothing is reported to Ray's makers, and what is started here listens on
    # 127.0.0.1 alone (the last variable is named after the systems where that is the default).
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
_IGNORED = (
    "The number of training batches .* is smaller than the logging interval",  # Lightning; we log by epoch
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's use of torch
    # Optuna: a trial beyond a limit is pruned, and CMA-ES learns from complete trials alone, so nothing is lost.
    "Constraints have been set, but CmaEsSampler will not use them",
)
_QUIET = ("pytorch_lightning", "mlflow", "optuna")  # loggers whose hints and advertisements are not ours


def prepare_process() -> None:
    """To be called where a process begins its work: the command line, a worker, `experiments.run`, `sweeps.run`.

    Calling it again is cheap, and sets what an import meanwhile has set back. A variable that the user has set stays.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    for message in _IGNORED:
        warnings.filterwarnings("ignore", message)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    if "mlflow.telemetry" in sys.modules and os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true":
        from mlflow.telemetry import set_telemetry_client

        set_telemetry_client()  # was on if mlflow was imported before its variable was set
    if not LOG.handlers:
        LOG.addHandler(_StandardError())
        LOG.setLevel(logging.INFO)
        LOG.propagate = False


class _StandardError(logging.Handler):
    """Prints each message as it is to what is standard error now: a progress bar may stand in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr)
