"""What a sweep shows while it runs: on a terminal of 80 columns, and in a pipe."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from experiments.provenance.gather import code_for
from sweeps.progress import SweepProgress
from sweeps.strategy.space import describe
from sweeps.study.finalists import Finals
from sweeps.study.search import Search
from sweeps.study.stage import settle

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

ROOT = Path(__file__).parents[2]
Poll = Callable[..., Any]
OpenFinals = Callable[[str], Finals]
NewTerminal = Callable[[], "Terminal"]
SPACE = "space: {optimizer.lr: {low: 0.1, high: 0.9}}\nsampler: {kind: random}\npruner: {kind: none}\n"
LONG = """
space:
  optimizer.lr: {low: 0.1, high: 0.9}
  optimizer.schedule.warmup_fraction: {low: 0.01, high: 0.3}
  data.augmentation.rotation: {low: 0.5, high: 20.0}
"""


def lines_of(written: str) -> list[str]:
    """The lines that a terminal was told to show one after another."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\]8;.*?\x1b\\", "", written.replace("\r", "\n"))
    return [line.rstrip() for line in text.split("\n") if line.strip()]


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def now(self) -> list[str]:
        """What stands there now: the bar, and the lines below it."""
        lines = lines_of(self.getvalue())
        assert max(map(len, lines)) <= 80
        return lines[max(place for place, line in enumerate(lines) if " elapsed" in line) :]


@pytest.fixture
def new_terminal(monkeypatch: pytest.MonkeyPatch) -> NewTerminal:
    """Puts a terminal of 80 columns in place of standard error, until the test ends."""

    def put() -> Terminal:  # by the test itself: pytest sets its own standard error when fixtures are ready
        screen = Terminal()
        for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return put


def test_the_bar_has_all_running_trials_with_their_epochs_and_follows_them(
    untrained: "Untrained", new_terminal: NewTerminal, poll: Poll
) -> None:
    sweep = untrained.sweep(f"{SPACE}budget: {{trials: 4}}", **{"trainer.max_epochs": 10})
    search, another = untrained.search(sweep), untrained.search(sweep)  # another command's
    mine, other = search.claim(), another.claim()
    assert mine is not None
    assert other is not None
    for epoch in (1, 2):
        mine.trial.report(0.5, step=epoch)
    terminal = new_terminal()
    with SweepProgress(sweep) as shown, shown.following(search, workers=1):
        shown.started(search, 0)
        bar, running = terminal.now
        assert bar.startswith("0/4 ")
        assert re.split(" {2,}", running) == ["trial 0 epoch 3/10", "trial 1 epoch 1/10"]
        other.trial.report(0.5, step=1)  # nobody tells this command
        poll(lambda: "trial 1 epoch 2/10" in terminal.now[-1])
        for epoch in range(3, 11):
            mine.trial.report(0.5, step=epoch)
        poll(lambda: "trial 0 epoch 10/10" in terminal.now[-1])  # its last one is over, but not the trial
        settle(search.study, mine.trial, "finished", value=0.75)
        shown.ended(search, 0)
        bar, best, running = terminal.now
        assert (bar.split()[0], best, running) == ("1/4", "best 0.7500 in trial 0", "trial 1 epoch 2/10")
        assert f"trial 0: val/accuracy 0.7500  {describe(mine.params)}" in lines_of(terminal.getvalue())
        settle(another.study, other.trial, "failed", error="word " * 40)
        shown.ended(search, 1)
    assert [line.split()[0] for line in terminal.now] == ["2/4", "best"]


def test_a_crowd_of_trials_fits_the_terminal(untrained: "Untrained", new_terminal: NewTerminal) -> None:
    sweep = untrained.sweep(f"{SPACE}budget: {{trials: 1000}}")
    search = untrained.search(sweep)
    claims = [search.claim() for _ in range(25)]
    terminal = new_terminal()
    with SweepProgress(sweep) as shown:
        shown.started(search, 24)
        named = set(re.findall(r"trial \d+", " ".join(terminal.now)))
    assert named == {f"trial {number}" for number in range(len(claims))}


def add_ended(search: Search, seconds: float, value: float | None) -> None:
    """Adds a trial that took so long; without a value it was pruned."""
    number = len(search.trials())
    trial = create_trial(
        state=TrialState.COMPLETE if value is not None else TrialState.PRUNED,
        value=value,
        params={"optimizer.lr": 0.5},
        distributions={"optimizer.lr": FloatDistribution(0.1, 0.9)},
        user_attrs={"slot": number, "outcome": "finished" if value is not None else "pruned"},
    )
    trial.datetime_start = datetime(2026, 1, 1, 12)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=seconds)
    search.study.add_trial(trial)


def test_the_time_left_comes_from_trials_that_have_ended(
    untrained: "Untrained", capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = untrained.sweep(f"{SPACE}budget: {{trials: 8}}")
    search = untrained.search(sweep)
    said = []
    with SweepProgress(sweep) as shown, shown.following(search, workers=2):
        for number, (seconds, value) in enumerate([(30, None), (3600, 0.7), (4000, 0.6), (40, None)]):
            add_ended(search, seconds, value)
            shown.ended(search, number)
            said.append(capsys.readouterr().err.strip())
    # After trial 1: 6 of 8 slots are open, (3600 s + 30 s) / 2 each, two at a time; then one finalist takes 3600 s.
    # At last: 4 are open, (2 · 3800 s + 30 s + 40 s) / 4 each, as 3800 s is the median; the finalist takes that, too.
    assert said == [
        "1/8  trial 0: pruned  lr=0.5",
        "2/8  trial 1: val/accuracy 0.7000  lr=0.5  (best 0.7000 in trial 1; about 2:30:45 left)",
        "3/8  trial 2: val/accuracy 0.6000  lr=0.5  (best 0.7000 in trial 1; about 2:49:18 left)",
        "4/8  trial 3: pruned  lr=0.5  (best 0.7000 in trial 1; about 2:07:15 left)",
    ]


def test_the_bar_has_the_time_left(untrained: "Untrained", new_terminal: NewTerminal) -> None:
    sweep = untrained.sweep(f"{SPACE}budget: {{trials: 3}}")
    search = untrained.search(sweep)
    add_ended(search, 7200, 0.5)
    terminal = new_terminal()
    with SweepProgress(sweep) as shown:
        shown.ended(search, 0)
        assert terminal.now[0].endswith(" elapsed, about 6:00:00 left")  # two trials and a finalist, one at a time


@pytest.fixture
def open_finals(untrained: "Untrained") -> Iterator[OpenFinals]:
    """Runs a sweep's search without training, and opens its finalists."""
    with ExitStack() as stack:

        def opened(lines: str) -> Finals:
            lines += "budget: {trials: 3}\nfinalists: {top: 2, seeds: 2, baseline: true}\n"
            sweep = untrained.sweep(lines, **{"trainer.max_epochs": 10})
            untrained.run(sweep, lambda point: point["optimizer.lr"])  # type: ignore[arg-type,return-value]
            code = code_for(sweep.base, untrained.store)
            return stack.enter_context(Finals.open(untrained.store, sweep, "data", code))

        yield opened


def test_finalists_are_named_by_configuration_and_seed(open_finals: OpenFinals, new_terminal: NewTerminal) -> None:
    finals, terminal = open_finals(SPACE), new_terminal()
    with SweepProgress(finals.sweep) as shown:
        first, second = finals.claim(), finals.claim()
        assert first is not None
        assert second is not None
        name = f"finalist {describe(first.params)}"
        shown.started(finals, 1)
        assert re.split(" {2,}", terminal.now[1]) == [f"{name} #1 of 2 epoch 1/10", f"{name} #2 of 2 epoch 1/10"]
        assert [line.partition(" in ")[0] for line in finals.running()] == [f"{name} #1 of 2", f"{name} #2 of 2"]
        settle(finals.study, first.trial, "finished", value=0.5)
        shown.ended(finals, 0)
        assert f"{name} #1 of 2: val/accuracy 0.5000  seed {first.seed}" in lines_of(terminal.getvalue())
        assert not [line for line in terminal.now if "best" in line]  # one seed may be lucky
        settle(finals.study, second.trial, "finished", value=0.7)
        shown.ended(finals, 1)
        assert terminal.now[1:] == [f"best mean 0.6000 over 2 seeds: {describe(first.params)}"]
        own = [finals.claim() for _ in range(4)][-1]
        assert own is not None
        settle(finals.study, own.trial, "failed", error="no")
        shown.ended(finals, 5)
        assert "finalist the recipe's own settings #2 of 2: failed" in terminal.getvalue()


def test_a_long_configuration_is_cut_between_words_and_keeps_its_trial(
    open_finals: OpenFinals, new_terminal: NewTerminal
) -> None:
    finals = open_finals(f"{LONG}sampler: {{kind: random}}\npruner: {{kind: none}}\n")
    claim = finals.claim()
    assert claim is not None
    whole = describe(claim.params)
    assert len(whole) > 40
    terminal = new_terminal()
    with SweepProgress(finals.sweep) as shown:
        shown.started(finals, 0)
        running = terminal.now[1]
    cut = re.fullmatch(r"finalist (.*) … \(trial (\d+)\) #1 of 2 epoch 1/10", running)
    assert cut is not None
    assert whole.startswith(f"{cut[1]} ")
    assert finals.search.trials()[int(cut[2])].params == claim.params


@pytest.mark.parametrize("workers", [1, 2])
def test_on_a_terminal_a_sweep_shows_the_trials_that_its_workers_train(
    workers: int, tmp_path: Path, poll: Poll, waiting_sweep: tuple[Path, tuple[str | Path, ...]]
) -> None:
    go, words = waiting_sweep
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "workbench", *words, "--workers", workers, "--store", tmp_path / "store"]
    path = f"{ROOT}{os.pathsep}{os.environ['PYTHONPATH']}"
    environment = os.environ | {"TERM": "xterm-256color", "PYTHONPATH": path}
    for variable in ("COLUMNS", "LINES"):
        environment.pop(variable, None)
    sweep = subprocess.Popen(
        [str(word) for word in command], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen: list[bytes] = []
    reader = Thread(target=_read_all, args=[ours, seen])
    reader.start()

    def lines() -> list[str]:
        return lines_of(b"".join(seen).decode())

    try:
        at_work = [f"trial {number} epoch 3/4" for number in range(workers)]
        poll(lambda: sweep.poll() is not None or [line for line in lines() if all(one in line for one in at_work)], 240)
    finally:
        go.touch()
        code = sweep.wait()
        reader.join()
        os.close(ours)
    assert code == 0, lines()
    assert [line for line in lines() if re.fullmatch(r"trial 0: val/accuracy .*  lr=.*", line)]
    assert [line for line in lines() if re.search(r"^0/2 .* elapsed$", line)]
    assert [line for line in lines() if re.search(r"^finalist lr=\S+ #1 of 1 epoch 1/4$", line)]
    assert [line for line in lines() if re.search(r" elapsed, about 0:\d\d:\d\d left$", line)]
    assert [line for line in lines() if len(line) > 80 and not line.startswith(("model ", "start it "))] == []
    links = re.findall(r"\x1b\]8;[^;]*;(http.*?)\x1b", b"".join(seen).decode())
    assert [link.partition("/#/experiments/")[0] for link in links] == [
        "http://127.0.0.1:5000"
    ] * 3  # trials, finalists, dashboard


def _read_all(terminal: int, seen: list[bytes]) -> None:
    with open(terminal, "rb", buffering=0, closefd=False) as stream:
        try:
            while chunk := stream.read(1 << 16):
                seen.append(chunk)
        except OSError:  # the last process that had the terminal has ended
            pass
