"""The files of a checkpoint, read without trust: safetensors headers, shard indexes, JSON, names of preprocessor files."""
