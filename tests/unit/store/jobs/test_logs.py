"""The log of every attempt: where each piece starts, how much is kept, and who may write it."""

import pytest

from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import logs
from store.jobs.logs import LogPiece
from store.jobs.transitions import Lease, LeaseLost
from tests.support.jobs.job_transitions import cancel, claim, expire, release, running, succeed

PLENTY = 2**20


def append(database: Database, lease: Lease, start: int, text: str, max_bytes: int = PLENTY) -> int:
    """Returns where the next piece starts."""
    with database.write() as session:
        logs.append(session, lease, start, text, max_bytes)
    return start + len(text.encode())


def read(
    database: Database, lease: Lease, offset: int = 0, most: int = PLENTY, tenant: str = DEFAULT_TENANT
) -> LogPiece:
    with database.read() as session:
        return logs.read(session, tenant, lease.job_id, lease.epoch, offset, most)


def attempts(database: Database, lease: Lease, tenant: str = DEFAULT_TENANT) -> list[int]:
    with database.read() as session:
        return list(logs.attempts(session, tenant, lease.job_id))


def again(database: Database, lease: Lease) -> Lease:
    """The next claim of the job."""
    release(database, lease)
    new = claim(database)
    assert new == Lease(lease.job_id, lease.epoch + 1)
    return new


def test_what_was_appended_is_read_in_order(database: Database) -> None:
    lease = running(database)
    assert attempts(database, lease) == []
    assert read(database, lease) == LogPiece(1, 0, 0, "")
    end = 0
    for line in ("one\n", "two\n", "three\n"):
        end = append(database, lease, end, line)
    assert read(database, lease) == LogPiece(1, 0, 14, "one\ntwo\nthree\n")
    assert attempts(database, lease) == [1]


def test_who_reads_on_from_each_end_misses_nothing(database: Database) -> None:
    lease = running(database)
    end = 0
    for number in range(10):
        end = append(database, lease, end, f"line {number}\n")
    found, offset = [], 0
    while (piece := read(database, lease, offset, most=17)).text:
        assert piece.start == offset
        found.append(piece.text)
        offset = piece.end
    assert found == [f"line {number}\nline {number + 1}\n" for number in range(0, 10, 2)]
    assert read(database, lease, end) == LogPiece(1, end, end, "")
    append(database, lease, end, "more")
    assert read(database, lease, end) == LogPiece(1, end, end + 4, "more")


def test_the_end_is_the_newest_pieces_in_their_order(database: Database) -> None:
    lease = running(database)

    def end(most: int, tenant: str = DEFAULT_TENANT) -> LogPiece:
        with database.read() as session:
            return logs.read_end(session, tenant, lease.job_id, lease.epoch, most)

    assert end(PLENTY) == LogPiece(1, 0, 0, "")
    last = 0
    for number in range(10):
        last = append(database, lease, last, f"line {number}\n")
    assert end(17) == LogPiece(1, 56, 70, "line 8\nline 9\n")
    assert end(PLENTY).text.splitlines() == [f"line {number}" for number in range(10)]
    assert end(1) == LogPiece(1, 63, 70, "line 9\n")
    assert end(PLENTY, "another").text == ""


def test_a_piece_that_is_larger_than_was_asked_for_comes_whole(database: Database) -> None:
    lease = running(database)
    append(database, lease, 0, "x" * 100)
    append(database, lease, 100, "y")
    assert read(database, lease, most=1) == LogPiece(1, 0, 100, "x" * 100)


def test_offsets_count_bytes_of_utf_8(database: Database) -> None:
    lease = running(database)
    texts = ["Grüße\n", "日本語 🌳\n", "plain\n"]
    ends: list[int] = []
    for text in texts:
        ends.append(append(database, lease, ends[-1] if ends else 0, text))
    assert ends == [8, 23, 29]
    assert read(database, lease) == LogPiece(1, 0, 29, "".join(texts))
    assert read(database, lease, 8, most=15) == LogPiece(1, 8, 23, texts[1])


def test_every_attempt_has_a_log_of_its_own(database: Database) -> None:
    first = running(database)
    append(database, first, 0, "of the first")
    second = again(database, first)
    third = again(database, second)
    append(database, third, 0, "of the third")
    assert attempts(database, third) == [1, 3]
    assert read(database, first).text == "of the first"
    assert read(database, second) == LogPiece(2, 0, 0, "")
    assert read(database, third).text == "of the third"


def test_only_the_newest_bytes_of_an_attempt_are_kept(database: Database) -> None:
    first = running(database)
    append(database, first, 0, "kept, since it is another attempt's")
    lease = again(database, first)
    end = 0
    for number in range(20):
        end = append(database, lease, end, f"{number:9d}\n", max_bytes=50)
    assert read(database, lease) == LogPiece(2, 150, 200, "".join(f"{number:9d}\n" for number in range(15, 20)))
    assert read(database, first).start == 0
    # A piece of which the end is new enough stays whole.
    append(database, lease, end, "12345", max_bytes=50)
    assert read(database, lease).start == 150
    append(database, lease, end + 5, "67890", max_bytes=50)
    assert read(database, lease).start == 160


def test_a_piece_larger_than_the_bound_is_kept_alone(database: Database) -> None:
    lease = running(database)
    append(database, lease, 0, "old", max_bytes=10)
    append(database, lease, 3, "x" * 40, max_bytes=10)
    assert read(database, lease) == LogPiece(1, 3, 43, "x" * 40)


def test_a_log_may_start_late_where_its_first_part_never_came(database: Database) -> None:
    lease = running(database)
    append(database, lease, 1000, "the rest")
    assert read(database, lease) == LogPiece(1, 1000, 1008, "the rest")


def test_a_piece_that_comes_twice_is_kept_once(database: Database) -> None:
    """The writer does not learn of a commit whose answer was lost: it sends the piece again, by then with more after it."""
    lease = running(database)
    append(database, lease, 0, "one\n")
    append(database, lease, 4, "Grüße\n")
    append(database, lease, 4, "Grüße\n")
    assert read(database, lease) == LogPiece(1, 0, 12, "one\nGrüße\n")
    append(database, lease, 4, "Grüße\nfour\n")
    assert read(database, lease) == LogPiece(1, 0, 17, "one\nGrüße\nfour\n")
    # Who had read to the end of the first of them goes on behind it.
    assert read(database, lease, 12) == LogPiece(1, 12, 17, "four\n")
    append(database, lease, 17, "five\n")
    assert read(database, lease, 17).text == "five\n"


def test_nothing_is_written_under_an_old_claim(database: Database) -> None:
    zombie = running(database)
    append(database, zombie, 0, "mine\n")
    expire(database, zombie.job_id)
    append(database, zombie, 5, "still mine\n")  # nobody has claimed it since
    new = claim(database, "b")
    assert new == Lease(zombie.job_id, 2)
    with pytest.raises(LeaseLost):
        append(database, zombie, 16, "not any more\n")
    append(database, new, 0, "the next one's\n")
    assert read(database, zombie).text == "mine\nstill mine\n"
    assert read(database, new).text == "the next one's\n"


def test_a_job_that_is_being_cancelled_still_writes_and_one_that_has_ended_does_not(database: Database) -> None:
    lease = running(database)
    cancel(database, lease.job_id)
    append(database, lease, 0, "last words\n")
    assert release(database, lease).value == "cancelled"
    with pytest.raises(LeaseLost):
        append(database, lease, 11, "too late\n")
    assert read(database, lease).text == "last words\n"
    done = running(database)
    succeed(database, done)
    with pytest.raises(LeaseLost):
        append(database, done, 0, "too late\n")
    assert attempts(database, done) == []


def test_another_tenant_sees_nothing(database: Database) -> None:
    lease = running(database, "mine")
    append(database, lease, 0, "secret")
    assert attempts(database, lease, "other") == []
    assert read(database, lease, tenant="other") == LogPiece(1, 0, 0, "")
    assert attempts(database, lease, "mine") == [1]
    assert read(database, lease, tenant="mine").text == "secret"
