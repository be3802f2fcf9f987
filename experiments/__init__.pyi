from .config import ExperimentConfig as ExperimentConfig
from .config import TrainerConfig as TrainerConfig
from .config import load_config as load_config
from .runner import RunResult as RunResult
from .runner import run as run
from .tracking.store import Store as Store
