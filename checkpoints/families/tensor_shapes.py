"""Names and shapes of the tensors of common modules."""

Shapes = dict[str, tuple[int, ...]]


def linear(path: str, rows: int, columns: int) -> Shapes:
    """Weight and bias of a linear map."""
    return {f"{path}.weight": (rows, columns), f"{path}.bias": (rows,)}


def norm(path: str, width: int) -> Shapes:
    """Weight and bias of a norm."""
    return {f"{path}.weight": (width,), f"{path}.bias": (width,)}
