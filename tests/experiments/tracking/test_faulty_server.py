"""A tracking server behind a proxy that drops, delays and cuts answers: no metric is lost or doubled, no run stuck."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from experiments import Store, load_config, run
from experiments.training.trace import as_scores, read_trace

EPOCHS = 3
FAULTS = ("dropped", "500", "429", "slow", "lost answer", "truncated")
SHARE = 0.12  # of requests that go wrong


@contextmanager
def faulty_proxy(server: str, seed: int) -> Iterator[tuple[str, Counter[str]]]:
    """Yields the address of a proxy for `server`, and how often each fault has struck so far."""
    draw, struck, drawing = random.Random(seed), Counter[str](), threading.Lock()
    target = urlsplit(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.body()
            with drawing:
                fault = draw.choice(FAULTS) if draw.random() < SHARE else ""
                struck[fault] += 1
            if fault == "dropped":
                self.close_connection = True
                return
            if fault in ("500", "429"):
                self.answer(int(fault), {}, b"the proxy has a bad day")
                return
            if fault == "slow":
                time.sleep(draw.uniform(0.1, 0.5))
            own = ("host", "connection", "content-length", "transfer-encoding")
            headers = {name: text for name, text in self.headers.items() if name.lower() not in own}
            passed_on = HTTPConnection(str(target.hostname), target.port, timeout=60)
            passed_on.request(self.command, self.path, body, headers | {"Host": target.netloc})
            got = passed_on.getresponse()
            content = got.read()
            passed_on.close()
            if fault == "lost answer":
                self.close_connection = True
                return
            told = {name: text for name, text in got.getheaders() if name.lower() in ("content-type", "date")}
            self.answer(got.status, told, content, cut=fault == "truncated")

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection |= cut

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}", struck
        proxy.shutdown()


@pytest.mark.parametrize("runs", [2, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_no_metric_is_lost_or_doubled_and_no_run_is_stuck(
    runs: int, tracking_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setattr("experiments.process.retry._LONGEST_PAUSE", 1.0)
    fields = {"trainer.max_epochs": EPOCHS, "trainer.threads": 1, "experiment": f"faulty {runs}"}
    with faulty_proxy(tracking_server, seed=runs) as (address, struck):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        ended = []
        for number in range(runs):
            store = Store.open(tmp_path / "store")
            ended.append(run(load_config("digits", {**fields, "seed": number}), name=f"run {number}", store=store))
    assert {struck[fault] > 0 for fault in FAULTS} == {True}, struck
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    direct = Store.open(tmp_path / "store")
    from experiments.tracking.spool import deliver

    deliver(direct)
    client = MlflowClient(tracking_server)
    experiment = client.get_experiment_by_name(f"faulty {runs}")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert sorted(each.info.run_id for each in found) == sorted(each.run_id for each in ended)
    for each in found:
        assert each.info.status == "FINISHED"
        folder = Path(client.download_artifacts(each.info.run_id, "", str(tmp_path)))
        told = [as_scores(line) for line in read_trace(folder / "trace.jsonl") if line["stage"] == "epoch"]
        for name in ("train/loss", "val/loss", "val/accuracy"):
            points = client.get_metric_history(each.info.run_id, name)
            assert [(point.step, point.value) for point in points] == [(line["epoch"], line[name]) for line in told]
        assert len(told) == EPOCHS
        record = json.loads((folder / "record.json").read_text())
        assert record["params"] == each.data.params
