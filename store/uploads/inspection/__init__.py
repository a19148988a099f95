"""What strangers send, checked before anything else reads it: checkpoints by their headers, datasets in a process apart.

Torch-free. The service uses it for uploads; whatever else fetches such files for a job holds them to the same rules.
"""
