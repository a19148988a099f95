"""Where scripts/install.sh puts torchao, which transformers would import in every process that finds it."""

import sys
from pathlib import Path

APART = Path(sys.prefix) / "apart"
