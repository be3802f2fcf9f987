"""One run: configuration, tracking in MLflow, lists, comparison. Uses lightning_modules and MLflow, but not Optuna.

`__init__.pyi` lists the public names. Each is imported when it is first used, so listing runs does not load torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
