"""The science: networks, optimizers, data. Knows torch, Lightning, scikit-learn and pydantic; not MLflow or Optuna.

The public names stand in `__init__.pyi`; each is imported only once it is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
