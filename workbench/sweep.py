"""`workbench sweep`: searches a recipe's fields until the budget is used up."""

import argparse

from workbench._command import (
    FIELDS_HELP,
    Document,
    add_code_option,
    add_store,
    count,
    number,
    open_store,
    print_dashboard,
    print_sentences,
    print_table,
)
from workbench._command import table as new_table
from workbench._layout import print_lines, print_link, print_prose
from workbench._recipes import check_kind, list_recipes

HELP = "search a recipe's space until its budget is used up; run the same command again to resume"
FIELDS = FIELDS_HELP
RECORDS_CODE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("recipe", metavar="RECIPE", help="the name of a sweep recipe, or the path of a YAML file")
    parser.add_argument("--name", metavar="TEXT", help="the sweep's name (default: the recipe's name)")
    parser.add_argument("--workers", type=count, metavar="N", help="trials at a time (default: one per core)")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="where trials run (default: local)")
    add_code_option(parser, "sweep")
    text = "show what would run, and what difference a question can show; writes nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)
    parser.add_argument("--address", metavar="HOST:PORT", help="the Ray cluster to join (default: start one)")


def more_help() -> str:
    return list_recipes("sweep")


def run(args: argparse.Namespace) -> Document:
    from experiments.recipe import parse_overrides
    from sweeps import load_sweep, run

    check_kind(args.recipe, "sweep", args.store)
    sweep = load_sweep(args.recipe, parse_overrides(args.fields), name=args.name)
    if args.dry_run:
        from sweeps.dry_run import dry_run

        return dry_run(sweep, args.store).as_dict()
    result = run(
        sweep,
        store=open_store(args.store),
        workers=args.workers,
        engine=args.engine,
        address=args.address,
        code_may_change=args.code == "today",
        progress=True,
    )
    return result.as_dict()


def exit_code(document: Document) -> int:
    return 0 if "champion" not in document or document["champion"] else 1


def show(document: Document, args: argparse.Namespace) -> None:
    if args.dry_run:
        _show_dry_run(document)
        return
    from sweeps.report.leaderboard import as_text, ranked, sentences
    from sweeps.strategy.space import describe

    print_sentences(sentences(document))
    if document["question"]:
        _show_question(document["question"])
    for each in document["audit"]:
        print_prose(each["finding"], f"{'against':<11}")
    arm = ["arm"] if document["question"] else []
    table = new_table("rank", "trial", *arm, document["metric"], "outcome", "params", "run", prose=["params"])
    for rank, trial in enumerate(ranked(document), start=1):
        place = str(rank) if trial["outcome"] == "finished" else ""
        value = number(trial["value"])
        words = [place, str(trial["number"]), *(trial[name] for name in arm), value]
        words += [trial["outcome"], describe(trial["params"])]
        table.add_row(*words, (trial["run_id"] or "")[:8])
    print_table(table)
    for finalist in document["finalists"]:
        what = f"trial {finalist['number']}, {describe(finalist['params'])}"
        seeds = len(finalist["values"])
        print_prose(f"{what}: {document['metric']} {as_text(finalist)} over {seeds} seed(s)", f"{'finalist':<11}")
    if champion := document["champion"]:
        print_lines(f"model      {champion['model'] or 'none: the module has no example_input_array'}")
    for name, text in (("trials", "all trials as charts"), ("finalists", "the finalists by configuration")):
        if name == "trials" or document["finalists"]:
            url = document[f"{name}_url"]
            print_link(name, url, text, f"the link has {len(url):,} characters: see --json")
    print_dashboard(document, args, "the sweep's report")


def _show_question(question: Document) -> None:
    """Prints the arms, best first, and all pairs."""
    from sweeps.report.answer_text import pair_verdict
    from sweeps.report.leaderboard import as_text
    from sweeps.strategy.space import describe

    arms = new_table(
        "arm",
        question["metric"],
        f"{question['unit']}s",
        "trials",
        "epochs",
        "seconds",
        "best settings",
        prose=["best settings"],
    )
    for arm in question["arms"]:
        score = "no score" if arm["mean"] is None else as_text(arm)
        counts = (str(each) for each in (len(arm["values"]), arm["trials"], arm["epochs"], round(arm["seconds"])))
        arms.add_row(arm["value"], score, *counts, describe(arm["params"]))
    print_table(arms)
    for pair in question["pairs"]:
        difference = as_text({"mean": pair["difference"], "ci95": pair["ci95"]})
        told = f"{' minus '.join(pair['between'])}: {difference}, p = {pair['p_value']:.3g}: {pair_verdict(pair)}"
        print_prose(told, f"{'pair':<11}")
    print_prose(question["covers"], f"{'covers':<11}")


def _show_dry_run(document: Document) -> None:
    print_lines(document["recipe"])
    if document["arms"]:
        table = new_table("arm", "trials", "fields of its space", prose=["fields of its space"])
        for arm in document["arms"]:
            table.add_row(arm["value"], str(arm["trials"]), ", ".join(arm["space"]))
        print_table(table)
    trials = "as many trials as there is time for" if document["target"] is None else f"{document['target']} trials"
    print_prose(f"{trials}, of up to {document['max_epochs']} epochs; then {document['finalists']} runs", "search     ")
    if document["prospect"]:
        print_prose(document["prospect"], "question   ")
    print("nothing was trained, and nothing was written")
