"""The views that a sweep saves: what MLflow's dashboard reads of them. In a browser: tests/test_browser.py."""

from experiments.dashboard.views import View, finalists_view, read_view, trials_view

FIELDS = {"optimizer.kind": False, "optimizer.lr": True}


def charts(view: View) -> list[dict[str, object]]:
    return [card for card in view.state["compareRunCharts"] if not card["deleted"]]


def test_trials_have_charts_of_the_search_and_none_of_what_says_nothing_about_it() -> None:
    logged = {
        "val/accuracy",
        "train/loss",
        "value",
        "system/disk_usage",
        "throughput/images_per_second",
    }
    view = trials_view("digits", "run", "val/accuracy", FIELDS, logged)
    parallel, line, scatter = charts(view)
    assert (parallel["type"], line["type"], scatter["type"]) == ("PARALLEL", "LINE", "SCATTER")
    assert (parallel["selectedParams"], parallel["selectedMetrics"]) == (list(FIELDS), ["val/accuracy"])
    assert scatter["xaxis"] == {"key": "optimizer.lr", "type": "PARAM"}  # a choice of words has no chart of points
    assert scatter["yaxis"] == {"key": "val/accuracy", "type": "METRIC"}
    gone = {card["metricKey"] for card in view.state["compareRunCharts"] if card["deleted"]}
    assert gone >= logged - {"val/accuracy", "train/loss"}
    assert "train/loss" not in gone
    assert view.state["searchFilter"] == "tags.`mlflow.parentRunId` = 'run' and tags.`workbench.kind` = 'trial'"


def test_finalists_are_one_closed_row_a_configuration_best_mean_first() -> None:
    tag = "workbench.configuration"
    told = {"by": tag, "groups": ["trial 7: adam"], "lowest_first": True}
    view = finalists_view("digits", "run", "val/loss", list(FIELDS), **told)  # type: ignore[arg-type]
    keys = [{"mode": "tag", "groupByData": tag}]
    assert view.state["groupBy"] == {"aggregateFunction": "average", "groupByKeys": keys}
    assert view.state["groupsExpanded"] == {f"tag.{tag}.trial 7: adam": False}
    assert (view.state["orderByKey"], view.state["orderByAsc"]) == ("metrics.`val/loss`", True)
    assert "'finalist'" in view.state["searchFilter"]
    assert not any("`value`" in column for column in view.state["selectedColumns"])


def test_a_view_is_read_back_and_one_of_a_large_space_fits_into_a_tag() -> None:
    fields = {f"model.network_args.field_number_{number}": True for number in range(500)}
    view = trials_view("large", "0" * 32, "val/accuracy", fields)
    assert len(view.as_text()) < 5_000  # of servers of earlier versions; MLflow 3.17 takes 20,000
    assert read_view(view.as_text()) == view.state
