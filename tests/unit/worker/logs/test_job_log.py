"""The log of an attempt: its bytes are counted, bounded and handed on, whatever the engine writes."""

import io
import threading

import pytest

from worker.children.job_log import PIECE_BYTES, TAIL_BYTES, JobLog, Piece

PLENTY = 2**30


def taken(log: JobLog) -> list[Piece]:
    """Everything that waits, piece by piece, as the heartbeat takes it."""
    pieces = []
    while (piece := log.next_piece()) is not None:
        pieces.append(piece)
        log.taken(piece.end)
    return pieces


def text_of(log: JobLog) -> str:
    return "".join(piece.text for piece in taken(log))


def test_an_empty_log_has_no_piece_and_no_tail() -> None:
    log = JobLog(PLENTY)
    assert (log.next_piece(), log.tail(10)) == (None, "")


def test_a_piece_stays_until_it_is_taken() -> None:
    log = JobLog(PLENTY)
    log.write("one\n")
    first = log.next_piece()
    assert first == Piece(0, 4, "one\n") == log.next_piece()
    log.write("two\n")
    log.taken(first.end)
    assert log.next_piece() == Piece(4, 8, "two\n")
    log.taken(8)
    assert log.next_piece() is None
    log.write("three\n")
    assert log.next_piece() == Piece(8, 14, "three\n"), "the count began anew"


def test_pieces_follow_each_other_byte_for_byte_and_are_bounded() -> None:
    log = JobLog(PLENTY)
    lines = [f"line {number} of a long log äöü\n" for number in range(30_000)]
    for line in lines:
        log.write(line)
    pieces = taken(log)
    assert "".join(piece.text for piece in pieces) == "".join(lines)
    assert len(pieces) > 2
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    for piece in pieces:
        assert piece.end - piece.start == len(piece.text.encode()) <= PIECE_BYTES


def test_bytes_and_not_characters_are_counted() -> None:
    log = JobLog(PLENTY)
    log.write("ü€😀")
    assert log.next_piece() == Piece(0, 9, "ü€😀")


def test_a_nul_becomes_a_character_that_every_database_stores() -> None:
    log = JobLog(PLENTY)
    log.write("a\x00b")
    assert log.next_piece() == Piece(0, 5, "a\ufffdb")
    assert log.tail(1) == "a\ufffdb"


def test_beyond_its_bound_the_oldest_is_dropped_and_the_count_goes_on() -> None:
    log = JobLog(100)
    for number in range(1000):
        log.write(f"{number:09}\n")
    [piece] = taken(log)
    assert (piece.start, piece.end) == (9900, 10_000)
    assert piece.text == "".join(f"{number:09}\n" for number in range(990, 1000))


def test_what_was_dropped_while_a_piece_was_being_written_is_not_taken_twice() -> None:
    log = JobLog(100)
    for number in range(10):
        log.write(f"{number:09}\n")
    piece = log.next_piece()
    assert piece is not None
    for number in range(10, 15):
        log.write(f"{number:09}\n")
    log.taken(piece.end)
    assert log.next_piece() == Piece(100, 150, "".join(f"{number:09}\n" for number in range(10, 15)))


def test_the_tail_is_the_last_lines_also_of_what_was_taken() -> None:
    log = JobLog(PLENTY)
    for number in range(10_000):
        log.write(f"line {number}\n")
    taken(log)
    assert log.tail(2) == "line 9998\nline 9999"
    assert len(log.tail(10_000)) <= TAIL_BYTES


def test_a_line_that_came_in_parts_is_one_line_of_the_tail() -> None:
    log = JobLog(PLENTY)
    for part in ("before\n", "one ", "line", "\nafter"):
        log.write(part)
    assert log.tail(2) == "one line\nafter"


@pytest.mark.parametrize("filler", range(4))
def test_no_character_of_a_long_line_is_torn(filler: int) -> None:
    """Lines are read in parts, and a part may end in the middle of a character of up to four bytes."""
    text = "x" * filler + "😀" * TAIL_BYTES + "\nthe next line\n"
    log = JobLog(PLENTY)
    log.copy(io.BytesIO(text.encode()))
    assert text_of(log) == text


def test_bytes_that_are_no_text_are_shown_as_such_and_disturb_nothing_else() -> None:
    log = JobLog(PLENTY)
    log.copy(io.BytesIO(b"good\n\xff\xfe\nend with half a character \xe2\x82"))
    assert text_of(log) == "good\n\ufffd\ufffd\nend with half a character \ufffd"


def test_a_last_line_without_an_end_is_kept() -> None:
    log = JobLog(PLENTY)
    log.copy(io.BytesIO(b"one\ntwo"))
    assert text_of(log) == "one\ntwo"


def test_several_writers_tear_no_line_while_a_reader_takes() -> None:
    log = JobLog(PLENTY)

    def write(name: str) -> None:
        for number in range(2000):
            log.write(f"{name}{number}\n")

    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for writer in writers:
        writer.start()
    pieces = []
    while any(writer.is_alive() for writer in writers) or log.next_piece() is not None:
        piece = log.next_piece()
        if piece is not None:
            pieces.append(piece)
            log.taken(piece.end)
    lines = "".join(piece.text for piece in pieces).splitlines()
    for name in "abc":
        assert [line for line in lines if line[0] == name] == [f"{name}{number}" for number in range(2000)]
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
