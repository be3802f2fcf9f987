"""Shows a sweep's result so far, from its first minute on: description, views and page of its run in MLflow."""

import time
from functools import partial

from experiments.artifact_names import LEADERBOARD, REPORT_PAGE
from experiments.code.loading import watch
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules.log import LOG
from sweeps.report.publish import record_settings, show, show_lock
from sweeps.report.result import gather, so_far
from sweeps.study.search import Search
from sweeps.study.stage import Stage

_PAUSE = 15.0  # seconds between two showings, at least
_SHARE = 0.03  # of the time so far that showing may take


class Live:
    """Shows how far a sweep is, for as short a time as not to slow it down.

    The last result is not shown here: it comes with the champion (`publish.publish`).
    """

    def __init__(self, search: Search, tracked: TrackedRun) -> None:
        self._search, self._tracked = search, tracked
        self._began = time.monotonic()
        self._spent = self._due = 0.0  # seconds in all; when it may be shown again, by the monotonic clock
        self._has_failed = False

    def begin(self) -> None:
        """Records what the sweep searches, and shows that it has begun, or how far earlier starts came."""
        self._search.store.persist(partial(record_settings, self._search, self._tracked))
        if self._search.has_open_slot():
            self._show(self._search)

    def update(self, stage: Stage) -> None:
        """Shows the result so far, unless that was done lately."""
        if time.monotonic() >= self._due and (stage.has_open_slot() or stage.is_running()):
            self._show(stage)

    def _show(self, stage: Stage) -> None:
        begin = time.monotonic()
        try:
            with show_lock(self._search):
                result = gather(self._search, self._tracked, [], None, so_far=so_far(stage))
                show(self._search, self._tracked, result.as_dict())
            for name in (LEADERBOARD, REPORT_PAGE):
                self._tracked.send(name)
        except Exception as error:  # a night of trials must not end because of a page
            if not self._has_failed:
                LOG.warning(f"the sweep's page could not be written, and may be out of date until it ends: {error}")
            self._has_failed = True
        now = time.monotonic()
        self._spent += now - begin
        self._due = max(now + _PAUSE, self._began + (self._spent + now - begin) / _SHARE)
        watch().run_ended = time.perf_counter()  # what was read for the page was not read for the next trial
