"""What the steps of a job are expected to leave, counted from config and header before anything is scored."""

from api_schemas.results.estimate import EstimatedStep
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.schedule import step_targets
from checkpoints.planning.width_estimate import estimate_widths
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape


def estimated_steps(shape: ModelShape, pruning: Pruning, file_bytes: int) -> tuple[EstimatedStep, ...]:
    """The original and every step of the schedule. `file_bytes`: of the original's safetensors files, headers included."""
    targets = step_targets(shape, shape.dense, pruning)
    models = [(0.0, shape.dense), *((target, estimate_widths(shape, pruning, target)) for target in targets)]
    headers = max(0, file_bytes - accounting.weight_bytes(shape, shape.dense))
    return tuple(
        EstimatedStep(
            step=number,
            requested=target,
            attention_sparsity=accounting.attention_sparsity(shape, widths),
            ffn_sparsity=accounting.feed_forward_sparsity(shape, widths),
            attention_parameters=accounting.attention_parameters(shape, widths),
            feed_forward_parameters=accounting.feed_forward_parameters(shape, widths),
            total_parameters=accounting.total_parameters(shape, widths),
            flops=accounting.total_flops(shape, widths),
            weight_bytes=accounting.weight_bytes(shape, widths),
            file_bytes=accounting.weight_bytes(shape, widths) + headers,
        )
        for number, (target, widths) in enumerate(models)
    )
