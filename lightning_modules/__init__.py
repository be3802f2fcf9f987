"""The science: networks, optimizers, data. Knows torch, Lightning and scikit-learn; nothing of MLflow or Optuna.

The public names stand in `__init__.pyi`; each is imported only once it is used.
"""

from lightning_modules.lazy import attach_stub

__getattr__, __all__ = attach_stub(__name__, __file__)
