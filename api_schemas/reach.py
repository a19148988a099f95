"""What a granularity can reach: the smallest cut it can make, and the most that leaves the required heads and channels."""

from api_schemas import accounting
from api_schemas.accounting import ModelShape
from api_schemas.enums import Granularity, Layout, Scope
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.spec import Pruning
from api_schemas.widths import AttentionWidths


def smallest_cut(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> int:
    """Parameters of the smallest cut the spec allows: one structure, or one a layer (and side) where all must move."""
    layer = widths.layers[0]
    qk, vo = accounting.qk_channel_parameters(shape), accounting.vo_channel_parameters(shape)
    if pruning.granularity is Granularity.ENTIRE_HEAD:
        one = layer.qk[0] * qk + layer.vo[0] * vo
    elif pruning.layout is Layout.STOCK:
        one = layer.heads * (qk + vo)
    else:
        one = layer.heads * max(qk, vo)
    everywhere = pruning.scope is Scope.LOCAL or pruning.layout is Layout.STOCK
    return one * (len(widths.layers) if everywhere else 1)


def smallest_widths(
    widths: AttentionWidths, granularity: Granularity, min_heads: int, min_channels: int
) -> AttentionWidths:
    """The widths left when a granularity has removed all it may."""
    if granularity is Granularity.ENTIRE_HEAD:
        return AttentionWidths.of(
            widths.head_dim, ((layer.qk[:min_heads], layer.vo[:min_heads]) for layer in widths.layers)
        )
    return AttentionWidths.of(
        widths.head_dim,
        (
            ([min(w, min_channels) for w in layer.qk], [min(w, min_channels) for w in layer.vo])
            for layer in widths.layers
        ),
    )


def max_sparsity(
    shape: ModelShape, widths: AttentionWidths, granularity: Granularity, min_heads: int = 1, min_channels: int = 1
) -> float:
    """The largest attention sparsity that `granularity` can reach from `widths`."""
    return accounting.attention_sparsity(shape, smallest_widths(widths, granularity, min_heads, min_channels))


def check_reachable(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> None:
    """Raise SPARSITY_OUT_OF_REACH, naming the maximum or the smallest cut, where the target cannot be met.

    A target is met to the nearest structure, so one below half of the smallest cut would remove nothing.

    The output bias is never removed but counts in the denominator, so five heads of six are 83.2%, not 83.3%. A target is
    compared without that rounding: asking for 5/6 is met within one structure and is accepted.
    """
    most = max_sparsity(shape, widths, pruning.granularity, pruning.min_heads, pruning.min_channels)
    kept_biases = shape.output_bias * shape.hidden_size * len(widths.layers)
    nominal = most * shape.attention_parameters / (shape.attention_parameters - kept_biases)
    target = pruning.target.share
    if target > nominal + 1e-9:
        raise _out_of_reach(
            f"maximum {most:.4f}",
            f"{pruning.granularity.value} can remove at most {most:.4f} of this model's attention parameters with "
            f"min_heads={pruning.min_heads} and min_channels={pruning.min_channels}; {target:.4f} was asked for.",
        )
    least = smallest_cut(shape, widths, pruning) / shape.attention_parameters
    if round(target / least) < 1:
        raise _out_of_reach(
            f"smallest cut {least:.4f}",
            f"With {pruning.granularity.value}, {pruning.scope.value} scope and layout {pruning.layout.value} the smallest "
            f"cut removes {least:.4f} of this model's attention parameters; {target:.4g} is nearer to nothing.",
        )


def _out_of_reach(limit: str, detail: str) -> SecateurError:
    item = ErrorItem(pointer="/pruning/target/attention_sparsity", code=ErrorCode.SPARSITY_OUT_OF_REACH, detail=limit)
    return SecateurError(ErrorCode.SPARSITY_OUT_OF_REACH, detail, (item,))
