"""Decoders: causal language models."""
