"""Who may write a run: no live run is taken for dead, and a process that lost its run writes nothing more to it."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from experiments import ExperimentConfig, Store, run
from experiments.errors import TakenOver
from experiments.process import presence
from experiments.process.owner import Owner
from experiments.provenance.checks import check
from experiments.provenance.record import read_record
from experiments.tracking import ownership
from experiments.tracking.lifecycle import close_dead_runs, create_run, open_run, reopen_run
from experiments.tracking.seal import broken
from experiments.training.epochs import Epoch

ELSEWHERE = replace(Owner.current(), boot="another-boot", key="ab12")
AS_ANOTHER_CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--mount", "--fork", "--mount-proc"]
CLOSE_DEAD = """
import sys
from experiments import Store
from experiments.tracking.lifecycle import close_dead_runs
print(close_dead_runs(Store.open(sys.argv[1])))
"""


def new_run(store: Store, **tags: str) -> str:
    return create_run(store, experiment="ownership", name="test", kind="train", tags=tags)


def take(store: Store, run_id: str) -> None:
    """What another process does that goes on with the run."""
    store.client.set_tag(run_id, "workbench.owner", str(ELSEWHERE))


def steps(store: Store, run_id: str, name: str) -> list[int]:
    return [point.step for point in store.client.get_metric_history(run_id, name)]


def as_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Who lives.


@pytest.mark.parametrize("seconds", [60, -60, 172_800, -172_800])
def test_a_step_of_the_clock_and_another_container_of_the_same_name_take_no_live_run(
    scratch_store: Store, tmp_path: Path, seconds: int
) -> None:
    run_id = new_run(scratch_store)
    lines = Path("/proc/stat").read_text().splitlines()
    later = [f"btime {int(line.split()[1]) + seconds}" if line.startswith("btime") else line for line in lines]
    (tmp_path / "stat").write_text("\n".join(later) + "\n")
    mount = 'mount --bind "$1" /proc/stat; shift; exec "$@"'
    python = [sys.executable, "-c", CLOSE_DEAD, str(scratch_store.folder)]
    for container in (AS_ANOTHER_CONTAINER, [*AS_ANOTHER_CONTAINER[:3], "--mount"]):
        command = [*container, "sh", "-c", mount, "sh", str(tmp_path / "stat"), *python]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert run_id not in found.stdout
    with open_run(scratch_store, run_id):
        assert scratch_store.client.get_run(run_id).info.status == "RUNNING"


def test_a_run_of_another_container_is_closed_once_its_lease_is_over(
    scratch_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "WATCH", 0.0)
    lives, gone = (new_run(scratch_store, **{"workbench.owner": str(each)}) for each in (_unseen("1"), _unseen("2")))
    for key, uptime in (("1", presence._uptime()), ("2", 0.0)):
        (scratch_store.folder / "owners" / _unseen(key).key).write_text(f"{uptime:015.3f} {_unseen(key)}")
    assert gone in (closed := close_dead_runs(scratch_store))
    assert lives not in closed
    assert "process" in scratch_store.client.get_run(gone).data.tags["workbench.error"]


def test_what_tells_who_lives_is_no_input_of_a_run(scratch_store: Store, tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    new_run(store, **{"workbench.owner": str(_unseen("3"))})
    lease = f"{presence._uptime():015.3f} {_unseen('3')}".encode()  # written by another process
    subprocess.run(["tee", tmp_path / "owners" / _unseen("3").key], input=lease, capture_output=True, check=True)
    assert close_dead_runs(store) == []
    config = ExperimentConfig().with_overrides({"trainer.max_epochs": 1, "data.source": "digits"})
    ended = run(config, name="beside another", store=scratch_store)
    told = scratch_store.files_folder(scratch_store.client.get_run(ended.run_id).info) / "provenance.json"
    assert [file for file in json.loads(told.read_text())["inputs"]["files"] if "owners" in file["path"]] == []


def _unseen(key: str) -> Owner:
    return replace(Owner.current(), namespace="17", key=f"{key:0>16}")


def test_two_processes_that_resume_one_run_do_not_both_write_it(scratch_store: Store) -> None:
    run_id = new_run(scratch_store)
    scratch_store.client.set_terminated(run_id, "KILLED")
    with reopen_run(scratch_store, run_id) as first:
        take(scratch_store, run_id)
        with pytest.raises(TakenOver, match="was taken over by process"):
            first.set_tags({"late": "yes"})
        scratch_store.client.set_tag(run_id, "workbench.owner", str(Owner.current()))
    assert "late" not in scratch_store.client.get_run(run_id).data.tags


# A process that has lost its run.


@pytest.mark.parametrize("how", ["taken", "closed"])
def test_a_process_that_lost_its_run_stops_before_its_next_write(scratch_store: Store, how: str) -> None:
    run_id = new_run(scratch_store)

    def lose() -> None:
        with open_run(scratch_store, run_id) as tracked:
            tracked.log_metrics({"score": 1.0}, 1)
            tracked.flush_metrics()
            if how == "taken":
                take(scratch_store, run_id)
            else:
                scratch_store.client.set_terminated(run_id, "FAILED")
            tracked.log_metrics({"score": 2.0}, 2)
            tracked.flush_metrics()

    with pytest.raises(TakenOver, match=r"had given no sign of life|as if this process had died"):
        lose()
    now = scratch_store.client.get_run(run_id)
    assert steps(scratch_store, run_id, "score") == [1]
    assert now.info.status == ("RUNNING" if how == "taken" else "FAILED")
    assert "workbench.outcome" not in now.data.tags
    assert not (scratch_store.files_folder(now.info) / "record.json").exists()


def test_training_ends_after_the_epoch_in_which_the_run_was_taken(scratch_store: Store) -> None:
    files: dict[str, bytes] = {}
    run_ids: list[str] = []

    def lose(epoch: Epoch) -> None:
        if epoch.number == 2:
            (found,) = [each for each in ownership._running(scratch_store) if each.info.run_name == "lost"]
            run_ids.append(found.info.run_id)
            files.update(as_files(scratch_store.files_folder(found.info)))
            take(scratch_store, found.info.run_id)

    config = ExperimentConfig().with_overrides({"trainer.max_epochs": 4, "data.source": "digits"})
    with pytest.raises(TakenOver):
        run(config, name="lost", store=scratch_store, observers=[lose])
    (run_id,) = run_ids
    now = scratch_store.client.get_run(run_id)
    assert now.info.status == "RUNNING"
    assert steps(scratch_store, run_id, "val/loss") == steps(scratch_store, run_id, "val/loss")[:2]
    assert as_files(scratch_store.files_folder(now.info)) == files
    scratch_store.client.set_terminated(run_id, "FAILED")


# A tracking server, which hosts share: only leases tell.


@pytest.fixture
def served(tmp_path: Path, tracking_server: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    monkeypatch.setattr(presence, "WATCH", 0.0)
    return Store.open(tmp_path / "store")


def test_a_run_of_another_host_is_closed_once_its_lease_is_over(served: Store) -> None:
    now = time.time()
    given: dict[str, dict[str, Any]] = {
        "lives": {"workbench.owner": str(ELSEWHERE), "workbench.lease": f"{now:.3f}"},
        "silent": {"workbench.owner": str(replace(ELSEWHERE, key="cd34")), "workbench.lease": f"{now - 1000:.3f}"},
        "of an earlier version": {"workbench.owner": "elsewhere/12@1700000000.25", "workbench.lease": "1.0"},
    }
    ids = {name: new_run(served, **tags) for name, tags in given.items()}
    closed = close_dead_runs(served)
    for name, run_id in ids.items():
        assert (run_id in closed) == (name == "silent")
        served.client.set_terminated(run_id, "KILLED")


def test_the_owner_renews_its_lease_by_the_servers_clock(
    served: Store, monkeypatch: pytest.MonkeyPatch, poll: Any
) -> None:
    monkeypatch.setattr(ownership, "BEAT", 0.05)
    monkeypatch.setattr(ownership.time, "time", lambda: 0.0)  # this host's clock is wrong
    run_id = new_run(served)
    client = MlflowClient(served.tracking_uri)

    def lease() -> float:
        return float(client.get_run(run_id).data.tags["workbench.lease"])

    first = lease()
    assert first > 1_700_000_000
    with open_run(served, run_id):
        poll(lambda: lease() > first)


def test_a_run_whose_lease_was_renewed_is_what_its_record_says(
    served: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poll: Any
) -> None:
    monkeypatch.setattr(ownership, "BEAT", 0.05)

    def await_renewal(_: Epoch) -> None:
        (found,) = [each for each in ownership._running(served) if each.info.run_name == "renewed"]
        lease = found.data.tags["workbench.lease"]
        poll(lambda: served.client.get_run(found.info.run_id).data.tags["workbench.lease"] != lease)

    config = ExperimentConfig().with_overrides({"trainer.max_epochs": 1, "data.source": "digits"})
    run_id = run(config, name="renewed", store=served, observers=[await_renewal]).run_id
    record = read_record(served, run_id, tmp_path / "record")
    checked = check(served, record)
    assert (checked.is_sealed, checked.problems) == (True, [])
    (tmp_path / "sent").mkdir()
    sent = Path(served.client.download_artifacts(run_id, "", str(tmp_path / "sent")))
    of_earlier_version = json.loads((sent / "record.json").read_text())
    of_earlier_version["tags"]["workbench.lease"] = "1.0"
    assert list(broken(of_earlier_version, record.run, sent)) == []


def test_what_was_queued_while_the_server_was_away_is_not_sent_to_a_lost_run(
    served: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = new_run(served)

    def lose() -> None:
        with open_run(served, run_id) as tracked:
            with monkeypatch.context() as away:
                away.setattr("experiments.tracking.spool.write", _unreachable)
                tracked.log_metrics({"score": 1.0}, 1)
                tracked.flush_metrics()
            assert tracked._outbox.has_queue()
            take(served, run_id)
            tracked.flush_metrics()

    with pytest.raises(TakenOver):
        lose()
    assert steps(served, run_id, "score") == []
    served.client.set_terminated(run_id, "KILLED")


def _unreachable(*_: object) -> None:
    import requests

    raise requests.ConnectionError("away")
