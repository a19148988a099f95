"""The code in the documentation: found, and run as one program a page.

A comment on the line before a block says what is special about it:

    <!-- not run: REASON -->     it cannot be run here
    <!-- run with: ARGUMENTS --> the arguments of a Python program
    <!-- run in: MODULE -->      a Python fragment that belongs to a module, with the names of that module
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
RUN, SHOWN = ("bash", "python"), ("json", "yaml", "text", "")
"""Languages of blocks: programs, and what is only read."""
_BLOCK = re.compile(
    r"(?:<!-- (?P<key>not run|run with|run in): (?P<value>.+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
SECONDS = 1800
"""Only what hangs takes so long."""


@dataclass(frozen=True)
class Block:
    """`mark`: the comment before it, as key and value."""

    page: Path
    line: int
    language: str
    text: str
    mark: tuple[str, str] | None

    @property
    def runs(self) -> bool:
        return self.language in RUN and (self.mark is None or self.mark[0] != "not run")

    @property
    def module(self) -> str | None:
        return self.mark[1] if self.mark is not None and self.mark[0] == "run in" else None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Every block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            (match["key"], match["value"]) if match["key"] else None,
        )
        for match in _BLOCK.finditer(text)
    ]


def run_page(
    page: Path,
    folder: Path,
    environment: Mapping[str, str],
    replaced: Mapping[str, str],
    *,
    before: Mapping[str, str] | None = None,
    last: str = "",
    session: bool = False,
) -> str:
    """Run the blocks of a page in one shell, in `folder`; returns what was said. Fails naming the block that did.

    `replaced`: texts for others, such as the address of the service. `before`: lines to run before the first block that
    contains a text, of Python in a session, else of shell; `last`: lines of shell after the last block. `session`: the
    Python blocks are one program, as in a notebook.
    """
    script = folder / "page.sh"
    programs = [block for block in blocks(page) if block.runs and block.module is None]
    script.write_text(_script(programs, folder, replaced, before or {}, session) + last)
    # A newcomer's shell has none of the settings that the tests run under.
    newcomers = {name: value for name, value in os.environ.items() if not name.startswith("SECATEUR_")}
    process = subprocess.Popen(
        ["bash", str(script)],
        cwd=folder,
        env={**newcomers, **environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        # Whatever a block left running in the background.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, (
        f"{(folder / 'at').read_text().strip()} ended with {process.returncode}:\n…{said[-3000:]}"
    )
    return said


def _script(
    found: Sequence[Block], folder: Path, replaced: Mapping[str, str], before: Mapping[str, str], session: bool
) -> str:
    # Variables of the shell are the environment of the programs that follow.
    lines = ["set -euo pipefail -o allexport"]
    unused = dict(before)
    programs = [block for block in found if block.language == "python"]
    for number, block in enumerate(found):
        text = block.text
        if session and block.language == "python":
            if block is not programs[0]:
                continue
            text = "\n".join(f"{_before(program.text, before, unused)}{program.text}" for program in programs)
        else:
            lines.append(_before(text, before, unused))
        for this, other in replaced.items():
            text = text.replace(this, other)
        lines.append(f"echo {shlex.quote(block.name)} > {shlex.quote(str(folder / 'at'))}")
        if block.language == "bash":
            lines.append(text)
            continue
        program = folder / f"block{number}.py"
        program.write_text(text)
        arguments = block.mark[1] if block.mark is not None else ""
        lines.append(f"python {shlex.quote(str(program))} {arguments}")
    assert not unused, f"nothing in the page has {list(unused)}"
    return "\n".join(lines) + "\n"


def _before(text: str, before: Mapping[str, str], unused: dict[str, str]) -> str:
    """The lines that belong before this block and have not been said before."""
    return "".join(f"{line}\n" for sign, line in before.items() if sign in text and unused.pop(sign, None) is not None)
