"""Databases as older and newer versions of MLflow and Optuna leave them, made by their own migrations."""

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import sqlalchemy
from alembic import command
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from optuna.storages import RDBStorage
from sqlalchemy.pool import NullPool

MLFLOW_2_22 = "0584bdc529eb"  # the schema of MLflow 2.22
OPTUNA_3_0 = "v3.0.0.d"


def make_old_mlflow(file: Path) -> None:
    """Makes a database of MLflow 2.22 with one experiment and one finished run, which has a metric."""
    engine = sqlalchemy.create_engine(f"sqlite:///{file}", poolclass=NullPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config = _get_alembic_config(str(engine.url))
        config.attributes["connection"] = connection
        command.upgrade(config, MLFLOW_2_22)
    with closing(sqlite3.connect(file)) as connection, connection:
        artifacts = (file.parent / "artifacts").as_uri()
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES (0, 'old', ?, ?)",
            (artifacts, "active"),
        )
        connection.execute(
            "INSERT INTO runs (run_uuid, name, status, lifecycle_stage, experiment_id, artifact_uri, source_type,"
            " start_time, end_time, user_id) VALUES (?, 'first', 'FINISHED', 'active', 0, ?, 'LOCAL', 1, 2, 'me')",
            ("a" * 32, f"{artifacts}/{'a' * 32}/artifacts"),
        )
        connection.execute(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
            " VALUES ('loss', 0.5, 1, 1, 0, ?)",
            ("a" * 32,),
        )


def make_old_optuna(file: Path) -> None:
    """Makes a database of Optuna 3.0 with a study of one trial: its schema lacks one index of today's."""
    storage = RDBStorage(f"sqlite:///{file}")
    study = optuna.create_study(study_name="old", storage=storage)
    study.add_trial(optuna.trial.create_trial(value=0.5))
    storage.remove_session()
    storage.engine.dispose()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP INDEX IF EXISTS trials_study_id_key")
        connection.execute("DROP INDEX IF EXISTS ix_trials_study_id")
        connection.execute("UPDATE alembic_version SET version_num = ?", (OPTUNA_3_0,))
        connection.execute("UPDATE version_info SET library_version = '3.0.6'")


def make_newer(file: Path) -> None:
    """Marks a database as one of a version that does not exist yet."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'f00df00df00d'")


def revision(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        ((found,),) = connection.execute("SELECT version_num FROM alembic_version")
        return str(found)
