"""A researcher's own script: plain Lightning, none of the floors above."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """\
import sys
from pytorch_lightning import Trainer, seed_everything
from lightning_modules import DataConfig, ImageClassifier, ImageDataModule, ModelConfig, OptimizerConfig

seed_everything(0)
data = ImageDataModule(DataConfig(source="digits"))
network = ModelConfig().build(data.image_shape, data.num_classes)
classifier = ImageClassifier(network, optimizer=OptimizerConfig(lr=0.003))
trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False)
trainer.fit(classifier, data)
(metrics,) = trainer.test(classifier, data)
assert metrics["test/accuracy"] >= 0.95, metrics
assert not {"mlflow", "optuna"} & set(sys.modules)
"""


def test_a_few_lines_of_plain_lightning_train_and_test(tmp_path: Path) -> None:
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # the same score on any machine, however busy
    command = [sys.executable, "-c", SCRIPT]
    ended = subprocess.run(command, cwd=tmp_path, env=one_thread, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
