"""The science: networks, optimizers, data. Knows torch, Lightning and scikit-learn; nothing of MLflow or Optuna."""

from lightning_modules.augmentation import AugmentationConfig
from lightning_modules.classifier import ImageClassifier, ModelConfig
from lightning_modules.datamodule import DataConfig, ImageDataModule
from lightning_modules.errors import InputError
from lightning_modules.networks import BaselineCNN
from lightning_modules.optimizers import OptimizerConfig, ScheduleConfig

__all__ = [
    "AugmentationConfig",
    "BaselineCNN",
    "DataConfig",
    "ImageClassifier",
    "ImageDataModule",
    "InputError",
    "ModelConfig",
    "OptimizerConfig",
    "ScheduleConfig",
]
