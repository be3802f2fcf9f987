"""ImageClassifier and ImageDataModule in a plain Trainer. Needs only torch, Lightning, NumPy and scikit-learn."""

from collections.abc import Sequence

import pytorch_lightning as pl

from lightning_modules import ImageClassifier, ImageDataModule


def fit_and_test(
    classifier: ImageClassifier,
    data: ImageDataModule,
    epochs: int,
    *,
    accelerator: str = "cpu",
    callbacks: Sequence[pl.Callback] = (),
) -> float:
    """Trains in a Trainer that logs and keeps nothing, validates after each epoch, and returns the accuracy on test."""
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(classifier, data)
    return float(trainer.test(classifier, data, verbose=False)[0]["test/accuracy"])
