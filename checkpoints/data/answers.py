"""Answers to questions in SQuAD's format (Rajpurkar et al., arXiv 1606.05250): texts, and where in the context each begins.

Files have them as a struct of lists, `{"text": […], "answer_start": […]}`, as `datasets` writes SQuAD, or as a list of structs,
`[{"text": …, "answer_start": …}]`, as SQuAD's own files do. No answer is an empty list (SQuAD 2.0, arXiv 1806.03822). The
inspector, the engine and the reader of SQuAD's own files (articles of paragraphs of questions) all use this module.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

TEXT, START = "text", "answer_start"
PARAGRAPHS = "paragraphs"
MAX_ANSWERS = 100
"""Of one question. SQuAD has six at most."""
MAX_REPEATED = 2**32
"""Characters of contexts, each counted as often as something is asked of it: what rows made of articles may come to."""
_SHOWN = 60
_NEEDED = f"answers must be lists `{TEXT}` and `{START}`, or a list of structs of the two"


class Answer(NamedTuple):
    """What stands in a context from the character `start` on."""

    text: str
    start: int


def has_answer(value: Any) -> bool:
    """Whether a row says where there is an answer, rightly or not."""
    return bool(value.get(TEXT) if isinstance(value, Mapping) else value)


def in_lists(value: Any) -> dict[str, list[Any]] | None:
    """A value of either form as a struct of lists; null stays null. Raises ValueError where it is neither."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        texts, starts = (_listed(value.get(key)) for key in (TEXT, START))
    elif isinstance(value, list | tuple) and all(isinstance(each, Mapping) for each in value):
        texts, starts = ([each.get(key) for each in value] for key in (TEXT, START))
    else:
        raise ValueError(_NEEDED)
    return {TEXT: texts, START: starts}


def is_articles(value: Any) -> bool:
    """Whether it is what SQuAD's own files have as `data`."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, Mapping) and PARAGRAPHS in each for each in value)
    )


def rows_of_articles(articles: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a question: `id`, `title`, `context`, `question` and `answers`, which are none where it cannot be answered.

    Whatever else stands there (plausible answers, say) is left out. Raises ValueError, naming the place, where it is not built as
    SQuAD is, or where contexts are too many characters to be repeated for every question.
    """
    left = MAX_REPEATED
    for number, article in enumerate(articles):
        at = f"data[{number}].{PARAGRAPHS}"
        for place, paragraph in enumerate(_objects(article[PARAGRAPHS], at)):
            context, here = paragraph.get("context"), f"{at}[{place}]"
            if not isinstance(context, str):
                raise ValueError(f"{here} has no text field `context`")
            for asked in _objects(paragraph.get("qas"), f"{here}.qas"):
                left -= len(context)
                if left < 0:
                    raise ValueError(
                        f"the contexts, repeated for every question, have more than {MAX_REPEATED} characters"
                    )
                without = asked.get("is_impossible") is True
                yield {
                    "id": asked.get("id"),
                    "title": article.get("title"),
                    "context": context,
                    "question": asked.get("question"),
                    "answers": [] if without else asked.get("answers"),
                }


def _objects(value: Any, at: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ValueError(f"{at} is not an array of objects")
    return value


def answers_in(value: Any, context: str) -> tuple[Answer, ...]:
    """The answers of a row, each found where it is said to stand; none where there is none.

    Raises ValueError, whose message is a clause that says what is wrong.
    """
    found = in_lists(value)
    if found is None:
        raise ValueError("the question's answers are missing; use empty lists if it has no answer")
    texts, starts = found[TEXT], found[START]
    if len(texts) != len(starts):
        raise ValueError(f"there are {len(texts)} answers, but {len(starts)} start positions")
    if len(texts) > MAX_ANSWERS:
        raise ValueError(f"the question has {len(texts)} answers; the maximum is {MAX_ANSWERS}")
    return tuple(_checked(text, start, context) for text, start in zip(texts, starts, strict=True))


def _checked(text: Any, start: Any, context: str) -> Answer:
    if not isinstance(text, str) or not text.strip():
        raise ValueError("an answer is missing or empty; use empty lists if the question has no answer")
    if type(start) is not int:
        raise ValueError(f"the answer {_short(text)} has no `{START}`")
    there = context[start : start + len(text)] if start >= 0 else ""
    if there != text:
        at = context.find(text)
        instead = "the answer is not in the context" if at < 0 else f"the answer is at {at}"
        raise ValueError(
            f"the answer {_short(text)} does not start at character {start} of the context: the context has "
            f"{_short(there)} there, and {instead}"
        )
    return Answer(text, start)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise ValueError(_NEEDED)
    return list(value)


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
