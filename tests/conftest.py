"""Settings every test runs under, and the small trained model that many of them share.

The environment is set before anything imports torch: one thread a process (xdist runs several), and never a network.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for name in [name for name in os.environ if name.startswith("SECATEUR_")]:
    del os.environ[name]  # a developer's settings are not the tests'
