"""`code.git`: one commit a tree, byte for byte, from many writers at once; damage and planted settings are found."""

import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.code.code_store import CodeStore, Tree
from experiments.code.snapshot import PROJECT, File
from experiments.errors import Altered, CannotRun

FILES = {
    "net.py": File(b"a = 1\r\n"),
    "deep/er/run.sh": File(b"#!/bin/sh\n", is_executable=True),
    'naïve "name"\nof two lines.py': File(b"strange\n"),
    "empty": File(b""),
    b"caf\xe9.bin".decode(errors="surrogateescape"): File(bytes(range(256))),
}


def stock_git(store: CodeStore, *words: str, stdin: str = "") -> str:
    command = ["git", f"--git-dir={store.path}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin).stdout


def objects(store: CodeStore) -> int:
    """The number of stored objects, packed or not."""
    counted = dict(line.split(": ") for line in stock_git(store, "count-objects", "--verbose").splitlines())
    return int(counted["count"]) + int(counted["in-pack"])


def test_what_is_kept_comes_back_byte_for_byte(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    commit = store.keep(FILES, "commit abc of the project")
    tree = store.tree(commit)
    assert dict(store.read(tree)) == FILES
    assert tree.sha256 == Tree.of(FILES).sha256
    assert stock_git(store, "log", "-1", "--format=%s|%at", commit) == "commit abc of the project|0\n"


def test_the_same_tree_is_one_commit_and_another_adds_what_is_new(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    commits = {store.keep(FILES, f"commit {number}") for number in range(20)}
    assert len(commits) == 1
    before = objects(store)
    other = store.keep(FILES | {"net.py": File(b"a = 2\n")}, "another")
    assert other not in commits
    assert objects(store) == before + 3  # the file, the folder and the commit


def test_files_are_added_to_an_earlier_tree(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    base = store.keep(FILES, "base")
    more = {"ignored/helper.py": File(b"helper\n")}
    assert dict(store.read(store.tree(store.keep(more, "more", base)))) == FILES | more


def test_sixty_writers_at_once_keep_all_trees(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from experiments.code.code_store import CodeStore\n"
        "from experiments.code.snapshot import File\n"
        "files = {'net.py': File(str(int(sys.argv[2]) % 6).encode()), 'same.py': File(b'same')}\n"
        "print(CodeStore(Path(sys.argv[1])).keep(files, 'a commit'))"
    )

    def write(number: int) -> str:
        words = [sys.executable, "-c", code, str(tmp_path), str(number)]
        return subprocess.run(words, cwd=PROJECT, check=True, capture_output=True, text=True).stdout.strip()

    with ThreadPoolExecutor(8) as pool:
        commits = list(pool.map(write, range(60)))
    store = CodeStore(tmp_path)
    assert len(set(commits)) == 6
    assert [dict(store.read(store.tree(commit)))["net.py"].content for commit in commits[:6]] == [
        str(number).encode() for number in range(6)
    ]
    stock_git(store, "fsck", "--strict", "--no-dangling")


def test_the_index_of_no_other_repository_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    store = CodeStore(tmp_path)
    assert dict(store.read(store.tree(store.keep(FILES, "a")))) == FILES


def test_changed_bytes_are_found(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    commit = store.keep(FILES, "a")
    blob = store.tree(commit).files["net.py"][0]
    loose = store.path / "objects" / blob[:2] / blob[2:]
    loose.parent.mkdir(exist_ok=True)
    loose.unlink(missing_ok=True)
    loose.write_bytes(zlib.compress(b"blob 7\0a = 9\r\n"))
    with pytest.raises((Altered, CannotRun)):
        list(store.read(store.tree(commit)))


def test_a_missing_repository_and_a_missing_commit_are_told(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    with pytest.raises(CannotRun, match=r"no code\.git"):
        store.tree("0" * 64)
    store.keep(FILES, "a")
    with pytest.raises(CannotRun, match=r"code\.git cannot be used"):
        store.tree("0" * 64)
    assert not store.has("0" * 64)


def test_a_bundle_brings_the_code_to_another_store(tmp_path: Path) -> None:
    here, there = CodeStore(tmp_path / "here"), CodeStore(tmp_path / "there")
    for store in (here, there):
        store.path.parent.mkdir()
    commit = here.keep(FILES, "a")
    here.bundle(commit, tmp_path / "code.bundle")
    there.fetch(commit, tmp_path)
    assert dict(there.read(there.tree(commit))) == FILES


def test_planted_settings_and_hooks_run_nothing(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    commit = store.keep(FILES, "a")
    planted = f"touch {tmp_path}/ran"
    hooks = store.path / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-checkout", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\n{planted}\n")
        (hooks / name).chmod(0o755)
    with (store.path / "config").open("a") as config:
        config.write('[extensions]\n\tpartialClone = origin\n[remote "origin"]\n\turl = ssh://host/x\n')
        config.write(f"\tpromisor = true\n[core]\n\tsshCommand = {planted};\n\tfsmonitor = {planted}\n")
        config.write(f"\talternateRefsCommand = {planted}\n\thooksPath = {hooks}\n")
    assert dict(store.read(store.tree(commit))) == FILES
    with pytest.raises(CannotRun):
        store.tree("1" * 64)  # a missing object must not be fetched
    store.keep({"new.py": File(b"new\n")}, "b")
    store.bundle(commit, tmp_path / "code.bundle")
    store.fetch("1" * 64, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["link", "commondir"])
def test_a_repository_that_leads_elsewhere_is_refused(tmp_path: Path, how: str) -> None:
    (tmp_path / "other").mkdir()
    CodeStore(tmp_path / "other").keep(FILES, "a")
    store = CodeStore(tmp_path)
    if how == "link":
        store.path.symlink_to(tmp_path / "other" / "code.git")
    else:
        store.keep(FILES, "a")
        (store.path / "commondir").write_text("../other/code.git\n")
    with pytest.raises(Altered, match="not the workbench's own"):
        store.tree("HEAD")


@pytest.mark.parametrize("name", ["..", ".git", ".GIT"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_names_outside_of_the_checkout_and_links_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    store = CodeStore(tmp_path)
    commit = store.keep(FILES, "a")
    inner = stock_git(store, "rev-parse", f"{commit}^{{tree}}").strip()
    blob = store.tree(commit).files["net.py"][0]
    entries = {"file": f"100644 blob {blob}", "folder": f"040000 tree {inner}", "link": f"120000 blob {blob}"}
    planted = stock_git(store, "mktree", stdin=f"{entries[kind]}\t{'to' if kind == 'link' else name}\n").strip()
    with pytest.raises(Altered, match="outside the checkout, or not a file"):
        store.tree(planted)


def test_packing_makes_it_smaller_and_loses_nothing_while_others_read_and_write(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    text = "".join(f"line {number} of a long file\n" for number in range(2000))
    states = [FILES | {"long.py": File(f"version = {number}\n{text}".encode())} for number in range(30)]
    commits = [store.keep(files, f"state {number}") for number, files in enumerate(states)]
    blob = stock_git(store, "hash-object", "-w", "--stdin", stdin="no commit has this\n").strip()
    (store.path / "objects" / "pack" / "tmp_pack_killed").write_bytes(b"half")
    before, spare = objects(store), store.spare_bytes()
    size = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())

    def read(number: int) -> bool:
        return dict(CodeStore(tmp_path).read(store.tree(commits[number]))) == states[number]

    with ThreadPoolExecutor(4) as pool:
        reading = [pool.submit(read, number) for number in range(30)]
        writing = [pool.submit(CodeStore(tmp_path).keep, FILES | {"n.py": File(b"%d" % n)}, "new") for n in range(5)]
        store.pack()
        assert all(future.result() for future in reading)
        added = [future.result() for future in writing]
    store.pack()
    assert all(map(read, range(30)))
    assert all(store.has(commit) for commit in added)
    assert objects(store) == before + 3 * len(added)
    assert stock_git(store, "cat-file", "-p", blob) == "no commit has this\n"
    now = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())
    assert 0 < spare <= size - now + 20_000
    assert store.spare_bytes() == 0
    assert [path.name for path in store.unfinished()] == ["tmp_pack_killed"]
    store.remove_unfinished()
    assert store.unfinished() == []
    assert stock_git(store, "fsck", "--strict", "--no-dangling") == ""
