"""The demonstration: synthesised keyword data, a small AST trained on it, and the whole service run over HTTP."""
