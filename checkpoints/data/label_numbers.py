"""Labels that are the numbers of classes: what data has to say of classes that share a name, or whose names it never knew."""

from collections.abc import Collection, Mapping, Sequence

from api_schemas.results.metrics import JobWarning


def class_numbers(labels: Sequence[str], used: Collection[str]) -> Mapping[str, int] | None:
    """Class numbers by the labels that data has, where each of them is such a number and none is a name; else None.

    `labels`: the checkpoint's, by class number. One whose classes are called "0" to "9" is matched by name, like others.
    """
    numbers = {str(number): number for number in range(len(labels))}
    if not used or set(used) - numbers.keys() or set(used) & set(labels):
        return None
    return {label: numbers[label] for label in used}


def by_number(labels: Sequence[str], used: Collection[str]) -> tuple[JobWarning, ...]:
    """A warning where that is how labels are matched: nobody but the data's author knows that both count alike."""
    numbers = class_numbers(labels, used)
    if numbers is None:
        return ()
    first = min(numbers.values())
    detail = (
        f"The data's labels are numbers, and none is the name of a class: they are taken as class numbers, {first} as "
        f"{labels[first]!r}. Where the data counts otherwise, write names."
    )
    return (JobWarning(code="labels_by_number", pointer="/dataset/columns/label", detail=detail),)
