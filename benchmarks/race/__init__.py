"""The race: every way of cutting attention that we know, ours and others', on one checkpoint, one calibration set and one budget.

    python -m benchmarks.race --model CHECKPOINT --data DATA --out DIR [--quick] [--arms REGEX] [--stages …]
    python -m benchmarks.race --model minilm|ENCODER --out DIR [--quick] [--arms REGEX]
    python -m benchmarks.race --decoder --model trained|FOLDER --out DIR [--arms REGEX] [--stages …]
    python -m benchmarks.race --whole --model CHECKPOINT|minilm [--data DATA] --out DIR [--arms REGEX] [--stages …]

An arm cuts a share of the attention parameters; a cell is one arm at one share with one calibration draw, measured and
written to DIR/cells. Cells are skipped once they are there, so the race goes on where it stopped, and several processes may
run different arms of it. Decisions (which arm is best, which learning rate) are made on validation; test is reported.

The second line runs the one-shot race on a sentence encoder pretrained at scale, MiniLM's six layers from PyPI or a folder such
as that of its twelve layers, with sentences of its own (the folder minilm). With `--whole`, attention and feed-forward blocks are
cut together, to shares of the whole model's FLOPs (the folder whole). With `--decoder`, those of a small Llama, to shares of
their parameters, judged by perplexity (the folder decoder).
"""
