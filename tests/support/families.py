"""What the gate has of families whose blocks are computed as another's: one class with a head each, where classes cost time."""

from checkpoints.families import FAMILIES

ALIKE = frozenset({"xlm-roberta", "camembert", "electra"})
"""`Family.name` of those whose layers transformers has copied from another's that is here."""
LEFT_TO_WHOLE = frozenset(
    name for family in FAMILIES if family.name in ALIKE for name in list(family.architectures)[1:]
)
"""Their classes but the first of each: what these add is names, shapes and files, which other tests have of every class."""
