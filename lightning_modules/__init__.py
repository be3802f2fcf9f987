"""The science: networks, optimizers, data. Uses torch, Lightning, scikit-learn and pydantic, but not MLflow or Optuna.

`__init__.pyi` lists the public names. Each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
