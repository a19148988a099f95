"""The most samples that pass through the model together, where the one who runs the engine bounds them.

A bound changes how much memory a job takes, not what it computes, but for the order of sums: results agree to float
tolerance, and with the same bound they are the same bits. Not bounded are the batches whose size is the point (latency) and
those that are small and on the CPU whatever the device (the checks of a packaged step and of its exports).
"""


def at_most(samples: int, microbatch: int | None) -> int:
    """`samples`, or the bound where there is one and it is lower."""
    return samples if microbatch is None else min(samples, microbatch)
