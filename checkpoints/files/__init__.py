"""The files of a checkpoint, read as untrusted input: safetensors headers, shard indexes, JSON, names of preprocessor files."""
