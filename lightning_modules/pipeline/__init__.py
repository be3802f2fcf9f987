"""From a data set to batches: cleaning, splits, normalization, augmentation, order, sampling, placement.

May import `lightning_modules.datasets` and `lightning_modules.images`. Add new augmentations in `augmentation.py`.
"""
