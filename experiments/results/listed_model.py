"""What MLflow lists of a run's model: name, settings, how to call it, and files of a few kB that load it."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import DatasetInput

from experiments.artifact_names import MODEL
from experiments.config import ExperimentConfig, flatten
from experiments.tracking.description import DESCRIPTION
from experiments.tracking.logged_model import ListedModel, as_name
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import TrackedRun, as_param
from lightning_modules.showable import in_markdown

_ABOUT = "MLmodel"  # MLflow's own file on a model
_ENVIRONMENT = ("conda.yaml", "python_env.yaml", "requirements.txt")
_CODE = Path(__file__).with_name("served_run.py")
_MOST = 500  # characters of a setting


def listed_model(
    run: TrackedRun, config: ExperimentConfig, inputs: Sequence[DatasetInput], scores: Mapping[str, float]
) -> ListedModel | None:
    """Returns what MLflow lists of the model in the run's folder; None if it has none. `scores`: on the test split."""
    folder = run.folder / MODEL
    if not (folder / _ABOUT).exists():
        return None
    about = yaml.safe_load((folder / _ABOUT).read_text(encoding="utf-8"))
    uri, name = f"runs:/{run.run_id}/{MODEL}", as_name(run.name)
    told = ", ".join(f"**{in_markdown(score)} {value:.4f}**" for score, value in scores.items())
    description = [f"The model of the run {in_markdown(run.name)}.", told, how_to_call(uri, about)]
    defaults = flatten(ExperimentConfig().tree())
    fields = {field: value for field, value in flatten(config.as_recorded()).items() if defaults.get(field) != value}
    tests = [each.dataset for each in inputs if each.dataset.name.endswith("-test")]
    return ListedModel(
        # MLflow would take a LoggedModel called `model` for the model at `runs:/RUN_ID/model`.
        name=f"{name} {run.run_id[:8]}" if name == MODEL else name,
        kind=None if config.model.module is not None else "classifier",
        params={field: as_param(value)[:_MOST] for field, value in fields.items()},
        tags={DESCRIPTION: "\n\n".join(filter(None, description))},
        files={
            _ABOUT: yaml.safe_dump(_referring(about, uri), sort_keys=False),
            _CODE.name: _CODE.read_text(encoding="utf-8"),
            **{each: (folder / each).read_text(encoding="utf-8") for each in _ENVIRONMENT if (folder / each).exists()},
        },
        dataset=(tests[0].name, tests[0].digest) if tests else None,
    )


def read_about(store: Store, run_id: str) -> dict[str, Any]:
    """Returns the content of the file MLmodel of a run's model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(store.client.download_artifacts(run_id, f"{MODEL}/{_ABOUT}", folder))
        about: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return about


def how_to_call(uri: str, about: Mapping[str, Any]) -> str:
    """Returns Markdown that loads a model and calls it. `about`: the content of its file MLmodel."""
    (array, *_) = json.loads(about["signature"]["inputs"])
    spec = array["tensor-spec"]
    shape = ", ".join("N" if axis == 0 else "any" if size < 0 else str(size) for axis, size in enumerate(spec["shape"]))
    lines = [
        "```python",
        f'model = mlflow.pyfunc.load_model("{uri}")',
        f"answers = model.predict(array)  # {spec['dtype']} ({shape})",
        "```",
    ]
    return "\n".join(lines)


def _referring(about: Mapping[str, Any], uri: str) -> dict[str, Any]:
    """Returns a file MLmodel like that of the run's model, of a model that loads the run's."""
    flavor = about["flavors"]["python_function"]
    unlike = {"artifacts", "code", "model_code_path", "python_model"}
    same = {name: value for name, value in flavor.items() if name not in unlike}
    refers = same | {"code": None, "model_code_path": _CODE.name, "config": {"model": uri}}
    left_out = {"artifact_path", "model_size_bytes", "saved_input_example_info"}
    return {name: value for name, value in about.items() if name not in left_out} | {
        "flavors": {"python_function": refers}
    }
