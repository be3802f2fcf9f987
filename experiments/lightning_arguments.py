"""The arguments of Lightning's Trainer that a recipe cannot set, and why."""

_FIXED = "the workbench decides it"

REFUSED = {
    "barebones": f"{_FIXED}: a run without logging has no record; trainer.max_epochs and the limits make it short",
    "check_val_every_n_epoch": "every epoch is validated: the trace, the best epoch and pruning need its score",
    "default_root_dir": f"{_FIXED}: a run's files are its artifacts; --store says where they are",
    "deterministic": "write trainer.exact: true, which also fixes the order of sums in MKL and oneDNN",
    "enable_autolog_hparams": f"{_FIXED}: the run's params are its config",
    "enable_checkpointing": f"{_FIXED}: resume needs a checkpoint after every epoch",
    "enable_model_summary": f"{_FIXED}: the artifact network.txt has it",
    "enable_progress_bar": f"{_FIXED}: the command line shows progress on a terminal",
    "fast_dev_run": "every run rehearses a few batches before it begins; to see only that: workbench train --dry-run",
    "limit_predict_batches": "predictions are of all images; write trainer.limit_val_batches or limit_test_batches",
    "logger": f"{_FIXED}: every run is logged to MLflow; what callbacks log is logged, too",
    "max_steps": "a run ends with an epoch, which has its scores and its checkpoint; write trainer.max_epochs",
    "max_time": "a run that ends by the clock cannot be repeated; write trainer.max_epochs",
    "min_steps": "a run ends with an epoch; write trainer.min_epochs",
    "model_registry": f"{_FIXED}: champions of sweeps are registered in MLflow",
    "num_sanity_val_steps": "every run rehearses a validation batch before it begins",
    "overfit_batches": "it would validate on training images; write trainer.limit_train_batches",
    "plugins": "they are objects, which a recipe cannot name; trainer.callbacks takes dotted paths",
    "use_distributed_sampler": f"{_FIXED}: the images of each batch are shared out over the devices",
    "val_check_interval": "validation is at the end of each epoch: the trace, the best epoch and pruning need it there",
}
