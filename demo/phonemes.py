"""The sounds and the twenty words of the demo's keyword data: formant targets and noise bands, as data.

The words come in five sets of four. The words of a set use the same four sounds in another order ("sami", "sima", "masi",
"misa"), so a model that only counts which sounds occur cannot tell them apart: it has to use where they are.

Vowel formants: Peterson and Barney, "Control methods used in a study of the vowels", JASA 24 (1952), men's means, rounded.
"""

from typing import NamedTuple


class Event(NamedTuple):
    """A stretch of sound with constant targets; neighbouring stretches are smoothed into each other."""

    milliseconds: float
    f1: float
    f2: float
    f3: float
    voice: float
    """Amplitude of the glottal source."""
    noise: float
    """Amplitude of the noise source."""
    centre: float
    """Centre of the noise band, Hz."""
    width: float
    """Standard deviation of the noise band, Hz."""


def _voiced(milliseconds: float, f1: float, f2: float, f3: float, voice: float) -> tuple[Event, ...]:
    return (Event(milliseconds, f1, f2, f3, voice, 0.0, 2000.0, 2000.0),)


def _stop(f2: float, burst: float) -> tuple[Event, ...]:
    """Closure, burst, aspiration."""
    return (
        Event(55.0, 350.0, f2, 2500.0, 0.0, 0.0, burst, 900.0),
        Event(14.0, 350.0, f2, 2500.0, 0.0, 0.9, burst, 700.0),
        Event(22.0, 450.0, f2, 2500.0, 0.1, 0.2, burst, 1500.0),
    )


SOUNDS: dict[str, tuple[Event, ...]] = {
    "a": _voiced(125, 730, 1090, 2440, 1.0),
    "e": _voiced(120, 530, 1840, 2480, 0.95),
    "i": _voiced(115, 270, 2290, 3010, 0.85),
    "o": _voiced(120, 570, 840, 2410, 0.95),
    "u": _voiced(115, 300, 870, 2240, 0.85),
    "m": _voiced(75, 250, 1000, 2200, 0.35),
    "n": _voiced(75, 250, 1650, 2600, 0.35),
    "l": _voiced(70, 360, 1250, 2800, 0.55),
    "r": _voiced(70, 330, 1100, 1500, 0.55),
    "s": (Event(105, 350, 1700, 2600, 0.0, 0.5, 5600, 1100),),
    "f": (Event(95, 350, 1100, 2300, 0.0, 0.25, 4200, 2600),),
    "p": _stop(850, 700),
    "t": _stop(1800, 4300),
    "k": _stop(1500, 1900),
}

WORDS: tuple[str, ...] = (
    *("sami", "sima", "masi", "misa"),
    *("tulo", "tolu", "luto", "lotu"),
    *("kine", "keni", "nike", "neki"),
    *("fora", "faro", "rofa", "rafo"),
    *("pemu", "pume", "mepu", "mupe"),
)
