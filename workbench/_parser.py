"""Turns the words of a command line into a command and its arguments."""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from workbench._command import Command, Parser
from workbench._version import ShowVersions


def parse(words: list[str]) -> tuple[Command, argparse.Namespace]:
    """Returns the command that the words name, and its arguments. Raises UsageError if they are not valid."""
    commands: dict[str, Any] = {name: import_module(f"workbench.{name}") for name in _names()}
    parser = Parser(prog="workbench", description="Run sweeps, compare runs, reproduce experiments.")
    parser.add_argument("--version", action=ShowVersions, nargs=0, help="show the versions of what is installed")
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, command in commands.items():
        _add(parsers, name, command)
    name = next((word for word in words if not word.startswith("-")), "")
    fields: list[str] = []
    if hasattr(commands.get(name), "FIELDS"):
        words, fields = _split_fields(words, parsers.choices[name])
    args = parser.parse_args(words)
    args.fields = fields
    return commands[args.command], args


def _names() -> list[str]:
    """Returns the names of all commands: the files of this package without a leading underscore."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def _add(parsers: Any, name: str, command: Any) -> None:
    epilog = getattr(command, "FIELDS", "")
    parser = parsers.add_parser(name, help=command.HELP, description=command.HELP, epilog=epilog, allow_abbrev=False)
    parser.more_help = getattr(command, "more_help", None)
    parser.add_argument("--json", action="store_true", help="print one JSON document; everything else goes to stderr")
    command.add_arguments(parser)


def _split_fields(words: list[str], command: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Splits the words into those that the command's parser knows, and the other pairs --FIELD.PATH VALUE."""
    options = command._option_string_actions
    known: list[str] = []
    fields: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word.partition("=")[0] in options:
            known.append(word)
            if word in options and options[word].nargs != 0 and rest and not rest[0].startswith("--"):
                known.append(rest.pop(0))
        else:
            fields.append(word)
            if "=" not in word and rest and not rest[0].startswith("--"):
                fields.append(rest.pop(0))
    return known, fields
