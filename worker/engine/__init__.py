"""The pruning engine: files in, files out. Pure torch; no HTTP, no database, no Celery."""

import logging

# Where torchao is installed, transformers imports it: it warns of kernels for GPUs that are not there, and of torch's own plans.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
