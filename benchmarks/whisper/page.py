"""The results as a page: what was asked, then a table, then every cut beside the original and beside LiteASR."""

from collections.abc import Mapping
from typing import Any

from benchmarks.whisper.job import MINUTES
from benchmarks.whisper.judging import Words, difference, rate_interval

_HEAD = """# Pruning a real Whisper

OpenAI's Whisper tiny.en, decoded greedily; words are compared after Whisper's own normalizer. *Real* clips are the few
sentences of Debian's pocketsphinx-testdata. *Synthesised* clips are sentences of `fortunes` spoken by flite and espeak-ng; two
of the voices are in the test clips only. WER is in percent, with a 95% interval (bootstrap over clips). Points are differences
on the same clips, with their intervals. All arms are calibrated on the same synthesised clips, unless the name of an arm gives
another number of them. Arms are cut once, without training or with one epoch of LoRA on these clips. *Encoder, M* is the number
of the encoder's parameters without positions. The last two columns are the speed of the encoder alone: seconds of audio per
second of one thread's processor time, in 30 s windows, and the ratio to the original in the same rounds.

LiteASR (arXiv 2502.20583) is the authors' own code, run in float32 on the same clips, with the thresholds that reach the
encoder's size and did best on validation. Its published average WER for Whisper tiny, on other data: 22.01 at 7.63 M, 22.97 at
7.41, 23.95 at 7.00, 27.09 at 6.48.
"""
NOTES = "\n## Notes\n"
WITHIN = 1.0
"""Points of WER that an encoder without 15% of its parameters may lose."""
LEAST_GONE = 0.851
TESTS = ("synthesised", "real")


def page(found: Mapping[str, Any], before: str = "") -> str:
    """Markdown. `before`: the page as it was, of which the notes that people wrote at its end are kept."""
    clips, arms = found["clips"], found["arms"]
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items() if name != "device")
    real = len(arms["dense"]["words"]["real"]["wanted"])
    lines = [
        _HEAD,
        f"`{found['command']}`: {clips['train']} clips to calibrate and train on, {clips['validation']} for choices, "
        f"{clips['test']} synthesised and {real} real ones to test on. Load average before the run: {found['load']}; times are "
        "processor time.",
        "",
        *table(arms),
        "",
        *pairs(arms),
        "",
        *goals(arms),
        "",
        *(job(found["job"]) if "job" in found else ()),
        f"Machine: {machine}.",
    ]
    _, heading, notes = before.partition(NOTES)
    return "\n".join(lines) + "\n" + heading + notes


def job(found: Mapping[str, Any]) -> list[str]:
    """What a whole job took, and what it said was left of it, with an empty line behind."""
    clips, limit = found["clips"], 60 * MINUTES
    met = "yes" if found["processor"] <= limit else "no"
    phases = ", ".join(f"{phase} {spent:.0f}" for phase, spent in found["phases"].items())
    lines = [
        f"A job on {sum(clips.values())} synthesised clips ({clips['train']} to calibrate on, {clips['validation']} to validate, "
        f"{clips['test']} to test): 25% of attention by the preset, one-shot, by the engine as `secateur prune` starts it, on "
        f"one thread. Wall time by phase, in seconds: {phases}.",
        "",
        "| goal | processor, s | wall, s | load average before | met |",
        "|---|---:|---:|---:|---|",
        f"| {MINUTES:g} minutes on 2 idle cores, judged by the processor time of one | {found['processor']:.0f} | "
        f"{found['wall']:.0f} | {found['load']:.1f} | {met} |",
        "",
        "| first estimate in | after, s | estimated time left, s | actual time left, s |",
        "|---|---:|---:|---:|",
    ]
    for each in found["estimates"]:
        lines.append(f"| {each['phase']} | {each['at']:.0f} | {each['said']:.0f} | {each['left']:.0f} |")
    return [*lines, ""]


def table(arms: Mapping[str, Any]) -> list[str]:
    """An arm a row."""
    lines = [
        "| | encoder, M | all, M | WER synthesised | points from dense | WER real | audio s per s | encoder speed-up |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    dense = Words.from_json(arms["dense"]["words"]["synthesised"])
    for name, arm in arms.items():
        synthesised, real = (_rate(arm, test) for test in TESTS)
        apart = "" if name == "dense" else _points(Words.from_json(arm["words"]["synthesised"]), dense)
        speed = arm["speed"]
        sizes = " | ".join(f"{arm[key] / 1e6:.2f}" for key in ("encoder_parameters", "parameters"))
        lines.append(
            f"| {name} | {sizes} | {synthesised} | {apart} | {real} | "
            f"{speed['seconds']:.0f} | {speed['ratio']:.2f} ({speed['low']:.2f} to {speed['high']:.2f}) |"
        )
    return lines


def pairs(arms: Mapping[str, Any]) -> list[str]:
    """Ours beside LiteASR at equal size."""
    lines = ["| encoder | ours minus LiteASR, synthesised | real |", "|---|---:|---:|"]
    for name, arm in arms.items():
        other = arms.get(name.replace("ours", "LiteASR", 1)) if name.startswith("ours, encoder") else None
        if other is not None:
            both = [[Words.from_json(each["words"][test]) for each in (arm, other)] for test in TESTS]
            lines.append(f"| {name.removeprefix('ours, encoder of ')} | {_points(*both[0])} | {_points(*both[1])} |")
    return lines if len(lines) > 2 else []


def goals(arms: Mapping[str, Any]) -> list[str]:
    """What was set out for, and whether it was met."""
    lines = ["| goal | measured | met |", "|---|---:|---|"]
    dense = {test: Words.from_json(arms["dense"]["words"][test]) for test in TESTS}
    for name, arm in arms.items():
        if not name.startswith("ours, encoder"):
            continue
        own, size = (
            {test: Words.from_json(arm["words"][test]) for test in TESTS},
            name.removeprefix("ours, encoder of "),
        )
        other = arms.get(name.replace("ours", "LiteASR", 1))
        theirs = {} if other is None else {test: Words.from_json(other["words"][test]) for test in TESTS}
        for test, words in theirs.items():
            found = difference(own[test], words)
            met = "no" if found[1] > 0 else "yes"
            lines.append(f"| not significantly behind LiteASR at {size}, {test} | {_points_of(found)} | {met} |")
        if arm["encoder_parameters"] < LEAST_GONE * arms["dense"]["encoder_parameters"]:
            for test in TESTS:
                found = difference(own[test], dense[test])
                met = "yes" if found[0] <= WITHIN else "no"
                lines.append(f"| within {WITHIN:g} point of dense at {size}, {test} | {_points_of(found)} | {met} |")
    return lines if len(lines) > 2 else []


def _rate(arm: Mapping[str, Any], test: str) -> str:
    words = Words.from_json(arm["words"][test])
    low, high = rate_interval(words)
    return f"{words.rate:.1f} ({low:.1f} to {high:.1f})"


def _points(first: Words, second: Words) -> str:
    return _points_of(difference(first, second))


def _points_of(found: tuple[float, float, float]) -> str:
    points, low, high = found
    return f"{points:+.1f} ({low:+.1f} to {high:+.1f})"
