"""Which checkpoints a finished run keeps."""

from experiments.artifact_names import BEST_CHECKPOINT, LAST_CHECKPOINT
from experiments.config import KeepCheckpoints, Weights


def kept_checkpoint(weights: Weights) -> str:
    """Returns the checkpoint whose weights the run's value stands for."""
    return BEST_CHECKPOINT if weights == "best" else LAST_CHECKPOINT


def superfluous(keep: KeepCheckpoints, weights: Weights, *, is_finalist: bool) -> set[str]:
    """Returns the checkpoints that a finished run does not keep. A finalist keeps one: it may be tested later."""
    if keep == "all":
        return set()
    written = {LAST_CHECKPOINT, kept_checkpoint(weights)}
    return written if keep == "none" and not is_finalist else written - {kept_checkpoint(weights)}
