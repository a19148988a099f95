"""What was found of the families, as tables and as a page."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def right_table(rows: Sequence[Row]) -> list[str]:
    """One line a model: errors, and seconds."""
    return [
        "| model | cut against zeros in the dense model | fresh process against engine | what the cut changes | seconds |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {row['model']} | {row['masked']:.1e} | {row['round_trip']:.1e} | {row['changed']:.2f} | {row['seconds']:.1f} |"
            for row in rows
        ),
    ]


def time_table(rows: Sequence[Row]) -> list[str]:
    """One line a model: measured over promised, of every cut."""
    names = list(rows[0]["cuts"])
    lines = [
        f"| model | dense, ms | {' | '.join(names)} | seconds |",
        f"|---|---:|{'---:|' * len(names)}---:|",
    ]
    for row in rows:
        cells = [
            f"{each['measured']:.2f}× of {each['promise']:.2f}×: {each['ratio']:.2f}" for each in row["cuts"].values()
        ]
        lines.append(f"| {row['model']} | {row['ms']:.1f} | {' | '.join(cells)} | {row['seconds']:.1f} |")
    return lines


def page(found: Mapping[str, Any]) -> str:
    """The whole page."""
    machine = found["machine"]
    ratios = "; ".join(
        f"{name}: median {median:.2f}, least {found['least_ratio'][name]:.2f}"
        for name, median in found["median_ratio"].items()
    )
    text = f"""# Every family: is a cut right, and what does it buy

Written by `python -m benchmarks.families --out docs/results/families.md` on {machine["processor"]}, {machine["threads"]} of
{machine["cores"]} cores, torch {machine["torch"]}, transformers {machine["transformers"]}, float32, in {found["seconds"]} s.

## Is it right

Tiny random models of every class that is supported, and of the configurations that change how attention is computed. Each
loses a head and some channels of every other head in all of its attentions, and some neurons in all of its feed-forward blocks,
by another number everywhere. Errors are shares of max(1, largest absolute answer); the bound is 1e-5, the largest found
{found["worst_error"]:.1e}. *Zeros in the dense model*: the stock class of transformers with zeros in its weights where something
was cut. *Fresh process*: what transformers alone makes of the folder. *What the cut changes*: dense against cut, in that unit.

{chr(10).join(right_table(found["right"]))}

## What it buys

Small random models (4 layers, 256 wide, 8 heads of 32, 1024 neurons; CLAP in stages), one input of the length that FLOPs are
counted for: images of 197 tokens, five seconds of sound, 128 words; Whisper with 300 positions and 64 tokens. Scores are random,
as uneven as real ones. Dense (the stock class) and cut models in turn, {machine["threads"]} thread; medians over rounds, in the
process's own time. A cell is the speed-up, that which the count of FLOPs promises, and their ratio. Of measured over promised,
{ratios}.

{chr(10).join(time_table(found["time"]))}
"""
    return text
