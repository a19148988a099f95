"""The command of a benchmark as its page shows it: without the places of the machine that ran it."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path


def shown(parser: argparse.ArgumentParser, argv: Sequence[str]) -> str:
    """`python -m …` by the parser's `prog`, with the values of options that are paths as their metavars."""
    places = {
        name: action.metavar or action.dest.upper()
        for action in parser._actions
        if action.type is Path
        for name in action.option_strings
    }
    words: list[str] = []
    option = ""
    for word in argv:
        name, equals, _ = word.partition("=")
        if name in places and equals:
            words.append(f"{name}={places[name]}")
        elif option in places:
            words.append(str(places[option]))
        else:
            words.append(shlex.quote(word))
        option = word
    return " ".join([str(parser.prog), *words])
