"""What is said of the installed packages, against files written here."""

import hashlib
import os
import time
from base64 import urlsafe_b64encode
from importlib.metadata import PathDistribution, version
from pathlib import Path

import pytest

from experiments.provenance import packages
from experiments.provenance.packages import Package, installed, requirements

RECORD = (
    "../../../bin/tool,sha256=aaa,219\r\n"
    "tool/__init__.py,sha256=bbb,10\r\n"
    "tool/__pycache__/__init__.cpython-311.pyc,,\r\n"
    "tool-1.0.dist-info/INSTALLER,sha256=ccc,4\r\n"
    "tool-1.0.dist-info/RECORD,,\r\n"
)


def install(
    folder: Path, record: str | None, direct_url: str | None = None, imported: set[str] = frozenset()
) -> Package:
    """A distribution `tool` 1.0+cpu in `folder`, as pip leaves one; what is said of it."""
    info = folder / "tool-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tool\nVersion: 1.0+cpu\n")
    if record is not None:
        (info / "RECORD").write_bytes(record.encode())
    if direct_url is not None:
        (info / "direct_url.json").write_text(direct_url)
    return packages._package(PathDistribution(info), "tool", "1.0+cpu", imported)


def test_record_is_hashed_byte_by_byte(tmp_path: Path) -> None:
    assert install(tmp_path, RECORD).record_sha256 == hashlib.sha256(RECORD.encode()).hexdigest()


def test_the_installed_numpy_s_record_is_hashed() -> None:
    (numpy,) = (package for package in installed() if package.name == "numpy")
    import numpy as imported

    info = Path(imported.__file__).parents[1] / f"numpy-{version('numpy')}.dist-info"
    assert numpy.record_sha256 == hashlib.sha256((info / "RECORD").read_bytes()).hexdigest()


def test_the_same_files_in_another_environment_have_the_same_hash(tmp_path: Path) -> None:
    there = "tool/__init__.py,sha256=bbb,10\n../../../bin/tool,sha256=ddd,215\ntool-1.0.dist-info/RECORD,,\n"
    one, other = install(tmp_path / "one", RECORD), install(tmp_path / "other", there)
    assert one.record_sha256 != other.record_sha256
    assert one.files_sha256 == other.files_sha256 == hashlib.sha256(b"tool/__init__.py,sha256=bbb,10").hexdigest()


def test_the_bytes_of_imported_packages_are_hashed_and_edited_files_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code, site = b"x = 1\n", tmp_path / "site"
    digest = urlsafe_b64encode(hashlib.sha256(code).digest()).rstrip(b"=").decode()
    record = f"tool/__init__.py,sha256={digest},6\ntool/data.txt,sha256=x,1\ntool-1.0.dist-info/RECORD,,\n"
    told = [install(site / "unused", record, imported={"other"})]
    (site / "used" / "tool").mkdir(parents=True)
    (site / "used" / "tool" / "__init__.py").write_bytes(code)
    distribution = PathDistribution(site / "used" / "tool-1.0.dist-info")
    told.append(install(site / "used", record, imported={"tool"}))
    before = (site / "used" / "tool" / "__init__.py").stat()
    (site / "used" / "tool" / "__init__.py").write_bytes(b"x = 2\n")
    os.utime(site / "used" / "tool" / "__init__.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    told.append(packages._package(distribution, "tool", "1.0", {"tool"}))
    assert [(each.bytes_sha256 is not None, each.edited) for each in told] == [
        (False, ()),
        (True, ()),
        (True, ("tool/__init__.py",)),
    ]
    assert told[1].bytes_sha256 != told[2].bytes_sha256
    assert told[1].files_sha256 == told[2].files_sha256


def test_a_file_is_edited_if_its_digest_in_record_is_another_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    later = time.time() + 5
    monkeypatch.setattr("time.time", lambda: later)  # what is known of new files is not kept
    digest = urlsafe_b64encode(hashlib.sha256(b"x = 1\n").digest()).rstrip(b"=").decode()
    record = f"tool/__init__.py,sha256={digest},6\ntool-1.0.dist-info/RECORD,,\n"
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__init__.py").write_text("x = 1\n")
    assert install(tmp_path, record, imported={"tool"}).edited == ()
    assert list((tmp_path / "cache" / "lightning-workbench" / "remembered").iterdir())
    info = tmp_path / "tool-1.0.dist-info"
    (info / "RECORD").write_text(record.replace(digest, digest[::-1]))
    assert packages._package(PathDistribution(info), "tool", "1.0", {"tool"}).edited == ("tool/__init__.py",)


def test_other_files_have_another_hash(tmp_path: Path) -> None:
    other = RECORD.replace("sha256=bbb", "sha256=eee")
    assert install(tmp_path / "one", RECORD).files_sha256 != install(tmp_path / "other", other).files_sha256


@pytest.mark.parametrize(
    ("record", "direct_url"),
    [(None, None), (RECORD, '{"dir_info": {"editable": true}, "url": "file:///home/me/tool"}')],
    ids=["no RECORD", "editable"],
)
def test_without_a_record_of_its_files_a_package_has_no_hashes(
    tmp_path: Path, record: str | None, direct_url: str | None
) -> None:
    package = install(tmp_path, record, direct_url)
    assert (package.record_sha256, package.files_sha256) == (None, None)


def test_the_project_is_not_among_the_packages() -> None:
    assert "lightning-workbench" not in {package.name for package in installed()}


def test_requirements_ask_for_what_an_index_can_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = '{"vcs_info": {"vcs": "git", "commit_id": "c0ffee"}, "url": "https://me:hunter2@host/tool.git"}'
    found = (install(tmp_path / "one", RECORD), install(tmp_path / "other", RECORD, source))
    monkeypatch.setattr(packages, "installed", lambda: found)
    assert requirements() == "tool==1.0\n# tool==1.0 came from no index: https://host/tool.git\n"
