"""One run: configured, tracked in MLflow, listed, compared. Knows lightning_modules and MLflow; nothing of Optuna.

The public names stand in `__init__.pyi`; each is imported only once it is used: listing runs needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
