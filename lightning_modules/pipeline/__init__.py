"""From a data set to batches: cleaning, splits, normalization, augmentation, order, sampling, placement.

May import `lightning_modules.datasets`, `lightning_modules.images` and `lightning_modules.stepping`. Add new
augmentations in `augmentation.py`.
"""
