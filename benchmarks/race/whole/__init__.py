"""The race of whole models: attention and feed-forward blocks cut together, to shares of the whole model's FLOPs.

    python -m benchmarks.race --whole --model CHECKPOINT --data DATA --out DIR
    python -m benchmarks.race --whole --model minilm --out DIR

FLOPs of every cut model are counted as it runs (benchmarks.race.counting). All arms are cut once; REDRAWN ones with two more
draws of calibration samples. Recovery, the same epoch for every arm with the original as its teacher, is for ours and the two
peers that one-shot did best on VALIDATION at that share.
"""
