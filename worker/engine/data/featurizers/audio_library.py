"""Imports torchaudio, and says what to do where that fails."""

from importlib import import_module
from typing import Any

from api_schemas.errors import ErrorCode, SecateurError

REPAIR_SCRIPT = "scripts/repair_torchaudio.py"


def load_torchaudio() -> Any:
    """The torchaudio module, with `compliance.kaldi`, `functional` and `transforms` imported.

    The published torchaudio wheel is built for CUDA. Beside a CPU build of torch its compiled half does not load, and
    then transformers' audio feature extractors crash as well; the parts used here are written in Python and need no
    compiled half. Raises ENGINE_ERROR with the name of the script that repairs the installation.
    """
    try:
        torchaudio = import_module("torchaudio")
        for part in ("compliance.kaldi", "functional", "transforms"):
            import_module(f"torchaudio.{part}")
    except (ImportError, OSError) as error:
        detail = (
            f"torchaudio cannot be imported on this machine ({error}). Its wheel is built for CUDA; beside a CPU build "
            f"of torch run `python {REPAIR_SCRIPT}` (or `secateur doctor --fix`) once, which removes its compiled half."
        )
        raise SecateurError(ErrorCode.ENGINE_ERROR, detail) from error
    return torchaudio
