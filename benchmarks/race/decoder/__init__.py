"""The race of decoders: attention and feed-forward blocks of a small Llama cut together, to shares of their parameters.

    python -m benchmarks.race --decoder --model trained --out DIR [--cache DIR] [--arms REGEX] [--stages …]
    python -m benchmarks.race --decoder --model FOLDER --out DIR

`trained`: a model made for this in minutes (trained.py), since no package was found that ships a decoder of a few megabytes.
FOLDER: a LlamaForCausalLM with its tokenizer. The text is documentation at hand (texts.py). Shares are of all maps in attention
and feed-forward blocks (q, k, v, o and the three of a gated block) in all layers; embeddings, the map to the vocabulary and norms
are neither cut nor counted, though an arm that puts maps into the residual path pays for these. Recovery, the same epoch of LoRA
with the original as its teacher, is for ours and of each other family for the arm that one-shot did best on VALIDATION at that
share.
"""
