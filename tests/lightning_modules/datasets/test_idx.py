"""IDX files: fetched from local mirrors, checked, set aside when damaged, and read."""

import gzip
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from lightning_modules import InputError
from lightning_modules.datasets import SourceOptions, find_source, idx

Files = dict[str, bytes]


def idx_gz(values: np.ndarray) -> bytes:
    """An IDX file by its definition: 0, 0, 8 for unsigned bytes, the number of dimensions, the sizes, the values."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes())


TRAIN_X = np.arange(4 * 2 * 3).reshape(4, 2, 3)
TEST_X = TRAIN_X[:2] + 100
FILES: Files = {
    "train-x.gz": idx_gz(TRAIN_X),
    "train-y.gz": idx_gz(np.array([0, 1, 1, 0])),
    "test-x.gz": idx_gz(TEST_X),
    "test-y.gz": idx_gz(np.array([1, 0])),
}
UNREACHABLE = "http://127.0.0.1:1/"  # nothing may listen on port 1


def release_of(*mirrors: str, files: Files = FILES) -> idx._Release:
    sha256 = {name: hashlib.sha256(contents).hexdigest() for name, contents in files.items()}
    return idx._Release(name="tiny", summary="", sha256=sha256, mirrors=mirrors, class_names=("a", "b"))


@dataclass
class Mirror:
    url: str
    asked_for: list[str] = field(default_factory=list)


Serve = Callable[[Files], Mirror]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves files from memory on a free local port; every other name is 404."""
    started: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(files: Files) -> Mirror:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/")
                mirror.asked_for.append(name)
                self.send_response(200 if name in files else 404)
                self.send_header("Content-Length", str(len(files.get(name, b""))))
                self.end_headers()
                self.wfile.write(files.get(name, b""))

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        mirror = Mirror(f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        started.append((server, thread))
        return mirror

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def put(folder: Path, files: Files) -> None:
    folder.mkdir()
    for name, contents in files.items():
        (folder / name).write_bytes(contents)


def contents_of(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_already_there_need_no_network(tmp_path: Path) -> None:
    put(tmp_path / "tiny", FILES)
    dataset = idx._load(release_of(), SourceOptions(root=str(tmp_path)))
    assert dataset.test is not None
    np.testing.assert_array_equal(dataset.train.images, TRAIN_X[..., np.newaxis])
    np.testing.assert_array_equal(dataset.test.images, TEST_X[..., np.newaxis])
    assert (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == ([0, 1, 1, 0], [1, 0])
    assert (dataset.train.images.dtype, dataset.train.labels.dtype) == (np.uint8, np.int64)
    assert dataset.class_names == ("a", "b")


def test_missing_files_are_downloaded_once(tmp_path: Path, serve: Serve) -> None:
    mirror = serve(FILES)
    for _ in range(2):
        folder = idx._fetch(release_of(mirror.url), SourceOptions(root=str(tmp_path)))
    assert folder == tmp_path / "tiny"
    assert contents_of(folder) == FILES
    assert mirror.asked_for == list(FILES)


def test_workbench_data_names_the_folder_when_no_root_is_given(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    assert idx._fetch(release_of(serve(FILES).url), SourceOptions()) == tmp_path / "tiny"


def test_workbench_mirrors_are_asked_first(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    own, published = serve(FILES), serve(FILES)
    monkeypatch.setenv("WORKBENCH_MIRRORS", f"{UNREACHABLE} {own.url}")
    idx._fetch(release_of(published.url), SourceOptions(root=str(tmp_path)))
    assert (own.asked_for, published.asked_for) == (list(FILES), [])


DAMAGED = FILES | {"test-x.gz": b"not what was published"}
SET_ASIDE = FILES | {"test-x.gz.damaged": DAMAGED["test-x.gz"]}


def test_a_damaged_download_is_set_aside_and_the_next_mirror_tried(
    tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = serve(DAMAGED), serve(FILES)
    folder = idx._fetch(release_of(first.url, second.url), SourceOptions(root=str(tmp_path)))
    assert contents_of(folder) == SET_ASIDE
    assert second.asked_for == ["test-x.gz"]
    assert f"test-x.gz has the wrong SHA-256: moved to {folder}/test-x.gz.damaged" in capsys.readouterr().err


def test_a_damaged_file_already_there_is_set_aside_and_fetched_again(tmp_path: Path, serve: Serve) -> None:
    put(tmp_path / "tiny", DAMAGED)
    mirror = serve(FILES)
    folder = idx._fetch(release_of(mirror.url), SourceOptions(root=str(tmp_path)))
    assert contents_of(folder) == SET_ASIDE
    assert mirror.asked_for == ["test-x.gz"]


@pytest.mark.parametrize("fails", ["unreachable", "missing"])
def test_a_mirror_that_fails_is_passed_over(fails: str, tmp_path: Path, serve: Serve) -> None:
    failing = UNREACHABLE if fails == "unreachable" else serve({}).url
    folder = idx._fetch(release_of(failing, serve(FILES).url), SourceOptions(root=str(tmp_path)))
    assert contents_of(folder) == FILES


def test_when_no_mirror_has_the_file_all_are_listed_with_their_reasons(tmp_path: Path, serve: Serve) -> None:
    wrong, empty = serve(DAMAGED), serve({})
    release = release_of(UNREACHABLE, empty.url, wrong.url, files={"test-x.gz": FILES["test-x.gz"]})
    with pytest.raises(InputError, match=r"^data\.source: test-x\.gz could not be downloaded from") as caught:
        idx._fetch(release, SourceOptions(root=str(tmp_path)))
    assert f"{UNREACHABLE} (ConnectionError), {empty.url} (HTTPError), {wrong.url} (wrong SHA-256)" in str(caught.value)
    assert "WORKBENCH_MIRRORS" in caught.value.remedy
    assert contents_of(tmp_path / "tiny") == {"test-x.gz.damaged": DAMAGED["test-x.gz"]}


def test_a_missing_folder_is_refused_by_the_name_it_came_under(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"^data\.root: no such folder"):
        idx._fetch(release_of(), SourceOptions(root=nowhere))
    monkeypatch.setenv("WORKBENCH_DATA", nowhere)
    with pytest.raises(InputError, match=r"^WORKBENCH_DATA: no such folder"):
        idx._fetch(release_of(), SourceOptions())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "tiny").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"^data\.root: train-x\.gz is missing or damaged, and .* cannot be written"):
        idx._fetch(release_of(serve(FILES).url), SourceOptions(root=str(tmp_path)))


IMAGES = gzip.decompress(FILES["train-x.gz"])


UNREADABLE = {
    "truncated gzip": FILES["train-x.gz"][:-10],
    "plain text": b"plain text",
    "empty": gzip.compress(b""),
    "a pixel is missing": gzip.compress(IMAGES[:-1]),
    "a pixel too many": gzip.compress(IMAGES + b"\0"),
    "floats": gzip.compress(IMAGES[:2] + b"\x0d" + IMAGES[3:]),
    "784 GB, it says": gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 10**9, 28, 28) + bytes(1000)),
}


@pytest.mark.parametrize("unreadable", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_file_that_is_no_idx_is_refused_by_its_path(unreadable: bytes, tmp_path: Path) -> None:
    files = FILES | {"train-x.gz": unreadable}
    put(tmp_path / "tiny", files)
    with pytest.raises(InputError, match=r"^data\.root: cannot be read: .*train-x\.gz"):
        idx._load(release_of(files=files), SourceOptions(root=str(tmp_path)))


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "kmnist"])
def test_what_is_no_published_file_is_refused(name: str, tmp_path: Path, serve: Serve) -> None:
    release = {"fashion_mnist": idx.FASHION_MNIST, "mnist": idx.MNIST, "kmnist": idx.KMNIST}[name]
    false = serve(dict.fromkeys(release.sha256, FILES["train-x.gz"]))
    with pytest.raises(
        InputError, match=r"train-images-idx3-ubyte\.gz could not be downloaded from .* \(wrong SHA-256\)"
    ):
        idx._fetch(replace(release, mirrors=(false.url,)), SourceOptions(root=str(tmp_path)))
    assert len(release.class_names) == 10
    assert all(len(sha256) == 64 for sha256 in release.sha256.values())


def test_fashion_mnist_is_what_was_published(real_data: Path) -> None:
    dataset = find_source("fashion_mnist").load(SourceOptions(root=str(real_data)))
    assert dataset.test is not None
    assert dataset.train.images.shape == (60_000, 28, 28, 1)
    assert dataset.test.images.shape == (10_000, 28, 28, 1)
    assert np.bincount(dataset.train.labels).tolist() == [6_000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1_000] * 10
    assert len(dataset.class_names) == 10
    assert dataset.train.images.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert dataset.train.images.std() / 255 == pytest.approx(0.3530, abs=5e-5)
