"""Checks of untrusted files before anything else reads them: checkpoints by their headers, datasets in a separate process.

Does not import torch. The service uses it for uploads; code that fetches such files for a job applies the same rules.
"""
