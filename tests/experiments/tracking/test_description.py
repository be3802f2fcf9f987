"""The description of a run in MLflow: what a user or a stranger wrote is no markup in it."""

from experiments import load_config
from experiments.tracking.description import describe_run


def test_values_of_a_recipe_and_an_error_are_no_markup() -> None:
    config = load_config("digits", {"experiment": "<img src=x onerror=alert(1)>|\x1b[31m\n# [a](javascript:b)"})
    text = describe_run(config, {"val/accuracy": 0.5}, ["the file `a|b`"], "ValueError: <script>*")
    assert r"| experiment | &lt;img src=x onerror=alert(1)&gt;\|\\x1b[31m\\n# [a]\(javascript:b) |" in text.splitlines()
    assert r"- the file \`a\|b\`" in text.splitlines()
    assert r"**Failed:** ValueError: &lt;script&gt;\* (traceback.txt has more)" in text.splitlines()
    assert "**val/accuracy 0.5000**" in text
