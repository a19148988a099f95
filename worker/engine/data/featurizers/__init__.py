"""Rows of a dataset as a checkpoint's inputs: clips, images, texts, each by the checkpoint's own settings."""
