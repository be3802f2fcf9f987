"""The installed packages: their versions, and hashes that show whether their files are the same."""

import json
import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from experiments.process.redaction import without_credentials

_PROJECT = "lightning-workbench"  # left out: its code is recorded on its own, its RECORD depends on its location


@dataclass(frozen=True, kw_only=True)
class Package:
    """One installed distribution. The hashes are None for an editable install, and without a complete RECORD."""

    name: str
    version: str
    record_sha256: str | None  # of the whole RECORD file
    # Of RECORD's sorted lines on the package's own files: the same files have the same hash in every environment. The
    # whole RECORD does not: it also lists byte code, scripts (they contain the environment's path) and pip's notes.
    files_sha256: str | None
    origin: str | None  # the URL, if the package came from no index: an editable install, or a commit

    def as_dict(self) -> dict[str, Any]:
        return {"version": self.version, "record_sha256": self.record_sha256, "files_sha256": self.files_sha256}


@cache
def installed() -> tuple[Package, ...]:
    """Returns every installed package except the project itself, sorted by name."""
    found: dict[str, Package] = {}
    for distribution in distributions():
        metadata = distribution.metadata
        name, version = metadata["Name"], metadata["Version"]
        key = re.sub(r"[-_.]+", "-", name or "").lower()
        if key and key != _PROJECT and key not in found:  # the first on the path is the one that is imported
            found[key] = _package(distribution, name, version)
    return tuple(found[key] for key in sorted(found))


def requirements() -> str:
    """Returns `name==version` lines for pip. Local versions (2.13.0+cpu) are cut, since an index may lack them."""
    lines = []
    for package in installed():
        pin = f"{package.name}=={package.version.partition('+')[0]}"
        lines.append(f"# {pin} came from no index: {package.origin}" if package.origin else pin)
    return "\n".join(lines) + "\n"


def _package(distribution: Distribution, name: str, version: str) -> Package:
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    editable = direct.get("dir_info", {}).get("editable", False)
    origin = without_credentials(direct["url"]) if editable or "vcs_info" in direct else None
    record = None if editable else distribution.read_text("RECORD")
    own_path = re.search(r"^[^,\n]+\.dist-info/RECORD(?=,)", record or "", re.MULTILINE)
    if record is None or own_path is None:
        return Package(name=name, version=version, record_sha256=None, files_sha256=None, origin=origin)
    raw = Path(str(distribution.locate_file(own_path.group()))).read_bytes()  # read_text would change the line ends
    return Package(
        name=name,
        version=version,
        record_sha256=sha256(raw).hexdigest(),
        files_sha256=sha256("\n".join(_own_files(record)).encode()).hexdigest(),
        origin=origin,
    )


def _own_files(record: str) -> list[str]:
    """Returns RECORD's sorted lines, except files outside the packages' folder, byte code and pip's notes."""
    return sorted(
        line
        for line in record.splitlines()
        if not line.startswith(("../", "/")) and ".pyc," not in line and ".dist-info/" not in line
    )
