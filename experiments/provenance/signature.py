"""Signatures of `record.json` with the user's SSH key (ssh-keygen(1), -Y): they hold against a forger, too."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from experiments.artifact_names import RECORD, RECORD_SIGNATURE
from experiments.errors import Altered
from experiments.tracking.store import Store
from lightning_modules import InputError

_NAMESPACE = "workbench-record"
_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


def find_key(given: str | None) -> Path:
    """Returns the private key to sign with: the one given, git's `user.signingKey` if it is a file, or ~/.ssh/id_…."""
    if given is not None:
        if not Path(given).expanduser().is_file():
            raise InputError("--key", given, "no such file", "give your private SSH key")
        return Path(given).expanduser()
    done = subprocess.run(["git", "config", "--get", "user.signingKey"], capture_output=True, text=True)
    usual = [Path("~/.ssh").expanduser() / name for name in _KEYS]
    named = [Path(done.stdout.strip().removesuffix(".pub")).expanduser()] if done.stdout.strip() else []
    found = next((path for path in (*named, *usual) if path.is_file()), None)
    if found is None:
        raise InputError(
            "--key", None, "you have no SSH key in ~/.ssh", "make one: ssh-keygen -t ed25519, or give --key"
        )
    return found


def sign_run(store: Store, run_id: str, key: Path) -> dict[str, Any]:
    """Signs the `record.json` of an ended run; returns `run_id` and `signed_by`. May ask for the key's passphrase."""
    held = {artifact.path for artifact in store.client.list_artifacts(run_id)}
    if RECORD not in held:
        raise InputError(
            "RUN", run_id, f"it has no {RECORD}", "name a run that has ended, not one of an earlier version"
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store.client.download_artifacts(run_id, RECORD, scratch)
        _ssh_keygen("--key", str(key), "sign", "-f", str(key), "-n", _NAMESPACE, str(folder / RECORD))
        signed_by = check_signature(folder)
        store.client.log_artifact(run_id, str(folder / RECORD_SIGNATURE))
    return {"run_id": run_id, "signed_by": signed_by}


def check_signature(folder: Path) -> str | None:
    """Returns who signed the record, None if nobody did. Raises Altered if the signature is not of this record.

    It is the name that the user's file of allowed signers gives the key (git's `gpg.ssh.allowedSignersFile`, or
    ~/.ssh/allowed_signers); for a key that is not there, its fingerprint.
    """
    signature = folder / RECORD_SIGNATURE
    if not signature.exists():
        return None
    words = ("-n", _NAMESPACE, "-s", str(signature))
    record = (folder / RECORD).read_bytes()
    try:
        told = _ssh_keygen("signature", str(signature), "check-novalidate", *words, stdin=record)
    except InputError as error:
        raise Altered(f"{RECORD_SIGNATURE}: the signature is not of this {RECORD}") from error
    fingerprint = next((word for word in told.split() if word.startswith("SHA256:")), "an unknown key")
    signers = _allowed_signers()
    if signers is None:
        return fingerprint
    try:
        name = _ssh_keygen("signature", str(signature), "find-principals", "-s", str(signature), "-f", str(signers))
    except InputError:
        return fingerprint
    return f"{name.split()[0]} ({fingerprint})" if name.split() else fingerprint


def _allowed_signers() -> Path | None:
    command = ["git", "config", "--get", "--type=path", "gpg.ssh.allowedSignersFile"]
    done = subprocess.run(command, capture_output=True, text=True)
    path = Path(done.stdout.strip() or "~/.ssh/allowed_signers").expanduser()
    return path if path.is_file() else None


def _ssh_keygen(field: str, value: str, action: str, *words: str, stdin: bytes | None = None) -> str:
    """Returns what ssh-keygen prints. Raises InputError with its last line if it fails."""
    environment = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["ssh-keygen", "-Y", action, *words], input=stdin, capture_output=True, env=environment, check=False
        )
    except FileNotFoundError as error:
        remedy = "install it: it comes with OpenSSH"
        raise InputError(field, value, "ssh-keygen is not installed", remedy) from error
    if done.returncode:
        reason = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-1:]
        raise InputError(field, value, f"ssh-keygen refuses: {' '.join(reason)}", "check the key and its passphrase")
    return done.stdout.decode(errors="replace")
