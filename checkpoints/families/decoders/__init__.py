"""Decoders that continue texts: language models whose tokens see those before them."""
