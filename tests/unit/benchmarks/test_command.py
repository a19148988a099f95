"""The command that a page shows."""

import argparse
import shlex
from pathlib import Path

from benchmarks.command import shown


def test_places_are_left_out_and_the_rest_can_be_typed_again() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.some")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cuts", nargs="*")
    parser.add_argument("--train", type=int)
    argv = ["--write", "/home/me/page.md", "--cuts", "50% of FLOPs", "none", "--out=/home/me/out", "--train", "3"]
    found = shown(parser, argv)
    assert found == "python -m benchmarks.some --write PAGE --cuts '50% of FLOPs' none --out=OUT --train 3"
    again = parser.parse_args(shlex.split(found)[3:])
    assert (again.cuts, again.train) == (["50% of FLOPs", "none"], 3)
