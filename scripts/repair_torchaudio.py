"""Makes torchaudio importable beside a CPU build of torch; run with the Python of the environment to repair.

What `secateur doctor --fix` does, for environments in which only the engine's libraries are installed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from secateur.doctor.torchaudio import main

if __name__ == "__main__":
    main()
