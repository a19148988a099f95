"""The fake engine as a template process imports it: `main` in a forked child is the program."""

import sys

from tests.support.jobs import fake_engine


def main(arguments: list[str]) -> int:
    sys.argv = ["fake_engine.py", *arguments]
    return fake_engine.main()
