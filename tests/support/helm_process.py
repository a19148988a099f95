"""Helm's library in a process of its own: it is a Go runtime, with threads and signal handlers that other tests should not meet.

    python helm_process.py CHART < VALUES      VALUES: a list of values, as JSON

Prints a list: for each, the rendered files by name, or what Helm says against it. And what its linter says of the first.
"""

import json
import sys
from typing import Any

import helm_python as helm


def rendered(chart: helm.Chart, values: dict[str, Any]) -> dict[str, Any]:
    try:
        chart.validate_schema(values)
        return {"files": chart.render(values, name="secateur", namespace="ml")}
    except helm.HelmError as error:
        return {"refused": str(error)}


def main() -> None:
    folder, wanted = sys.argv[1], json.load(sys.stdin)
    with helm.Chart.load(folder) as chart:
        answers = [rendered(chart, values) for values in wanted]
    json.dump({"answers": answers, "lint": helm.lint(folder, wanted[0])}, sys.stdout)


if __name__ == "__main__":
    main()
