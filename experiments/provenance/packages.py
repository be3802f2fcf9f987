"""The installed packages: their versions, and hashes that show whether their files are the same."""

import json
import re
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import file_digest, sha256
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from experiments.process.redaction import without_credentials
from lightning_modules.images.remembered import identity, remembered

_PROJECT = "lightning-workbench"  # left out: its code is recorded on its own, its RECORD depends on its location
_HEADER = re.MULTILINE | re.IGNORECASE
_CODE = (".py", ".so", ".pyd", ".dylib", ".dll")  # what can run


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
    # Of the bytes of its code files as they are now, if this process has imported the package; else None.
    bytes_sha256: str | None = None
    edited: tuple[str, ...] = ()  # code files whose bytes are not those that were installed

    def as_dict(self) -> dict[str, Any]:
        names = ("version", "record_sha256", "files_sha256", "bytes_sha256")
        return {name: getattr(self, name) for name in names} | ({"edited": list(self.edited)} if self.edited else {})


@cache
def installed() -> tuple[Package, ...]:
    """Returns every installed package except the project itself, sorted by name."""
    imported = {name.partition(".")[0] for name in sys.modules}
    return tuple(_packages(distributions(), imported))


def installed_in(site_packages: Path) -> tuple[Package, ...]:
    """Returns every package in another environment's folder, sorted by name."""
    return tuple(_packages(distributions(path=[str(site_packages)]), set()))


def _packages(found: Iterable[Distribution], imported: set[str]) -> list[Package]:
    packages: dict[str, Package] = {}
    for distribution in found:
        name, version = _name_and_version(distribution)
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key and key != _PROJECT and key not in packages:  # the first on the path is the one that is imported
            packages[key] = _package(distribution, name, version, imported)
    return [packages[key] for key in sorted(packages)]


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """Returns these headers of the metadata, or "". The library would parse the whole text, once for each."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    found = (re.search(rf"^{header}:[ \t]*(.*?)[ \t\r]*$", text, _HEADER) for header in ("Name", "Version"))
    name, version = ("" if each is None else each.group(1) for each in found)
    return name, version


def requirements() -> str:
    """Returns `name==version` lines for pip. Local versions (2.13.0+cpu) are cut, since an index may lack them."""
    lines = []
    for package in installed():
        pin = f"{package.name}=={package.version.partition('+')[0]}"
        lines.append(f"# {pin} came from no index: {package.origin}" if package.origin else pin)
    return "\n".join(lines) + "\n"


def _package(distribution: Distribution, name: str, version: str, imported: set[str]) -> Package:
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    editable = direct.get("dir_info", {}).get("editable", False)
    origin = without_credentials(direct["url"]) if editable or "vcs_info" in direct else None
    record = None if editable else distribution.read_text("RECORD")
    own_path = re.search(r"^[^,\n]+\.dist-info/RECORD(?=,)", record or "", re.MULTILINE)
    if record is None or own_path is None:
        return Package(name=name, version=version, record_sha256=None, files_sha256=None, origin=origin)
    raw = Path(str(distribution.locate_file(own_path.group()))).read_bytes()  # read_text would change the line ends
    lines = _own_files(record)
    bytes_sha256: str | None = None
    edited: tuple[str, ...] = ()
    if any(line.partition(",")[0].partition("/")[0].partition(".")[0] in imported for line in lines):
        bytes_sha256, edited = _bytes(Path(str(distribution.locate_file(""))), lines)
    return Package(
        name=name,
        version=version,
        record_sha256=sha256(raw).hexdigest(),
        files_sha256=sha256("\n".join(lines).encode()).hexdigest(),
        origin=origin,
        bytes_sha256=bytes_sha256,
        edited=edited,
    )


def _own_files(record: str) -> list[str]:
    """Returns RECORD's sorted lines, except files outside the packages' folder, byte code and pip's notes."""
    return sorted(
        line
        for line in record.splitlines()
        if not line.startswith(("../", "/")) and ".pyc," not in line and ".dist-info/" not in line
    )


def _bytes(folder: Path, lines: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Returns the SHA-256 of a package's code, and the files that were edited. Files are read once on a machine."""
    recorded = {name: digest for name, digest, *_ in (line.split(",") for line in lines) if _is_code(name)}
    places = {name: f"{folder}/{name}" for name in recorded}
    marks: list[str | None] = []
    for path in places.values():
        try:
            marks.append(identity(path))
        except OSError:
            marks.append("gone")

    def read() -> str:
        digest, edited = sha256(), []
        for name, path in places.items():
            try:
                with Path(path).open("rb") as file:
                    own = file_digest(file, "sha256").digest()
            except OSError:
                own = b""
            digest.update(f"{name} {own.hex()}\n".encode())
            if recorded[name] and recorded[name] != f"sha256={urlsafe_b64encode(own).rstrip(b'=').decode()}":
                edited.append(name)
        return json.dumps([digest.hexdigest(), edited])

    key = json.dumps(["code of a package, version 1", str(folder), list(recorded.items()), marks])
    total, edited = json.loads(read() if None in marks else remembered(key, read))
    return total, tuple(edited)


def _is_code(name: str) -> bool:
    return name.endswith(_CODE) or ".so." in name
