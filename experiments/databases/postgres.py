"""Checks PostgreSQL URLs given by users, and connects to them."""

from typing import Any

import sqlalchemy
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from experiments.process.redaction import know, without_credentials
from lightning_modules import InputError

PATIENCE = 8  # seconds for a server to answer


def checked_url(url: str, field: str) -> URL:
    """Returns the URL with its driver. Raises InputError if it is not a PostgreSQL URL or the driver is missing."""
    know(url)
    shown = without_credentials(url)
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "postgresql":
            remedy = "write postgresql://USER@HOST/DATABASE, or leave it out to use a file in the store"
            raise InputError(field, shown, "is not a PostgreSQL database", remedy)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect().import_dbapi()
    except InputError:
        raise
    except (ArgumentError, NoSuchModuleError, ValueError) as error:  # ValueError: the port is no number
        remedy = "write postgresql://USER@HOST/DATABASE, and @ in a password as %40, : as %3A, / as %2F"
        raise InputError(field, shown, "is not a database URL", remedy) from error
    except ImportError as error:
        remedy = "pip install 'lightning-workbench[postgres]' -c constraints.txt"
        raise InputError(field, shown, f"its driver is missing: {error.name}", remedy) from error
    if "@" in (parsed.host or ""):
        raise InputError(field, shown, "has an @ in its password", "write it as %40")
    return parsed


def connect(url: str, field: str, **options: Any) -> Engine:
    """Returns an engine on the database. Raises InputError if no server answers or the server refuses to connect."""
    address = checked_url(url, field)
    patience = {} if "connect_timeout" in address.query else {"connect_timeout": PATIENCE}
    engine = sqlalchemy.create_engine(address, connect_args=patience, **options)
    try:
        engine.connect().close()
    except OperationalError as error:
        told = [line for line in str(error.orig).splitlines() if line.strip() and not line.startswith("\t")]
        reason = without_credentials(told[-1])
        remedy = "start that server, or correct the URL (it is best to keep a password in PGPASSWORD or ~/.pgpass)"
        raise InputError(field, without_credentials(url), f"cannot be opened: {reason}", remedy) from error
    return engine
