"""Tables and links of pages, and of what a notebook shows."""

from experiments import RunResult
from experiments.notebook import Link, table


def test_a_cell_is_escaped_and_numbers_have_four_digits() -> None:
    rows = [("<b>", 0.123456), (None, 7), (Link("<run>", 'http://x/?a=1&b="'), "ok")]
    shown = table(("a & b", "value"), rows)
    assert shown.splitlines() == [
        "<table><thead><tr><th>a &amp; b</th><th>value</th></tr></thead><tbody>",
        "<tr><td>&lt;b&gt;</td><td>0.1235</td></tr>",
        "<tr><td></td><td>7</td></tr>",
        '<tr><td><a href="http://x/?a=1&amp;b=&quot;">&lt;run&gt;</a></td><td>ok</td></tr>',
        "</tbody></table>",
    ]


def test_a_run_shows_why_it_failed_and_its_metrics() -> None:
    result = RunResult(
        run_id="abcdef1234567890",
        name="<i>mine</i>",
        status="FAILED",
        outcome="failed",
        error="train/loss is nan",
        value=None,
        metrics={"val/loss": 0.5},
        artifact_uri="file:///a",
        dashboard_url="http://127.0.0.1:5000/#/experiments/1/runs/abc",
    )
    shown = result._repr_html_()
    link = '<a href="http://127.0.0.1:5000/#/experiments/1/runs/abc">&lt;i&gt;mine&lt;/i&gt; (abcdef12)</a>'
    assert f"<tr><td>failed</td><td>{link}</td></tr>" in shown
    assert "<tr><td>error</td><td>train/loss is nan</td></tr>" in shown
    assert "<tr><td>val/loss</td><td>0.5000</td></tr>" in shown
    (row,) = result.to_pandas().to_dict("records")
    assert row == {"run_id": "abcdef1234567890", "name": "<i>mine</i>", "outcome": "failed", "val/loss": 0.5}


def test_escape_sequences_are_shown_and_lines_stay_lines() -> None:
    shown = table(("\x1b[31m",), [("a\n\u202e<script>",), ("x" * 100_000,)])
    assert "<th>\\x1b[31m</th>" in shown
    assert "<td>a\n\\u202e&lt;script&gt;</td>" in shown
    assert len(shown) < 10_000
