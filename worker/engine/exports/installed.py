"""Whether the libraries that exports need are there. They come with an extra of their own: most workers never export."""

from collections.abc import Sequence
from importlib.util import find_spec

from api_schemas.enums import ExportFormat
from api_schemas.errors import ErrorCode, SecateurError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_installed(formats: Sequence[ExportFormat]) -> None:
    """Raises EXPORT_UNAVAILABLE where exports are asked for and a library is missing, without importing any."""
    missing = [package for package in PACKAGES if find_spec(package) is None] if formats else []
    if missing:
        raise SecateurError(
            ErrorCode.EXPORT_UNAVAILABLE,
            f"This worker cannot write {', '.join(formats)}: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed. Install the extra (pip install 'secateur[export]'), "
            "or leave `exports` out.",
        )
