"""Numbers as people write them, and Markdown escaping checked by a Markdown reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from api_schemas import formatting


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.00 k"),
        (10_968_760, "11.0 M"),
        (590_000, "590 k"),
        (85_400_000, "85.4 M"),
        (103_000_000_000, "103 G"),
    ],
)
def test_count(number: int, shown: str) -> None:
    assert formatting.count(number) == shown


def test_units() -> None:
    assert formatting.file_size(343_000_000) == "343 MB"
    assert formatting.file_size(12) == "12 B"
    assert formatting.milliseconds(0.4123) == "0.412 ms"
    assert formatting.milliseconds(1250.4) == "1250 ms"
    assert formatting.percent(0.5012, 2) == "50.12%"


def test_a_long_word_is_cut_and_invisible_characters_go() -> None:
    assert len(formatting.plain("x" * 10_000)) == formatting.MAX_WORD
    assert formatting.plain("a\u202eb\u200bc\n\td\x00") == "abc d"


@given(st.text(max_size=80))
def test_any_word_survives_markdown_as_itself(word: str) -> None:
    """Escaped, a word is one run of text: what a reader sees is the word, whatever it held."""
    (paragraph,) = [
        token for token in MarkdownIt("commonmark").parse("- x " + formatting.markdown(word)) if token.type == "inline"
    ]
    assert {child.type for child in paragraph.children or ()} <= {"text", "text_special"}
    shown = "".join(child.content for child in paragraph.children or ())
    assert shown.rstrip() == f"x {formatting.plain(word)}".rstrip()


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (17.3, 64.4, "17 to 64 seconds"),
        (30, 119, "30 to 120 seconds"),
        (118, 371, "2 to 6.2 minutes"),
        (30, 130, "0.5 to 2.2 minutes"),
        (4000, 7190, "67 to 120 minutes"),
        (4000, 90_000, "1.1 to 25 hours"),
    ],
)
def test_ranges_of_time(low: float, high: float, words: str) -> None:
    assert formatting.time_range(low, high) == words
