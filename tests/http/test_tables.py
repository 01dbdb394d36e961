import pytest

from sipagent.errors import LocalError
from sipagent.http.idempotency import IdempotencyTable
from sipagent.http.rate import RateLimit


def test_an_answer_is_given_again_until_it_expires() -> None:
    table: IdempotencyTable[str] = IdempotencyTable(ttl_seconds=60)
    table.keep("k", b"a", "answer", now=0)
    assert table.find("k", b"a", now=59.9) == "answer"
    assert table.find("k", b"a", now=60) is None


def test_a_key_belongs_to_one_request() -> None:
    table: IdempotencyTable[str] = IdempotencyTable()
    table.keep("k", b"a", "answer", now=0)
    with pytest.raises(LocalError):
        table.find("k", b"b", now=1)


def test_the_table_does_not_grow_beyond_its_capacity() -> None:
    table: IdempotencyTable[int] = IdempotencyTable(capacity=3)
    for number in range(10):
        table.keep(str(number), b"", number, now=number)
    assert len(table) == 3
    assert table.find("6", b"", now=10) is None
    assert table.find("7", b"", now=10) == 7


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    rate = RateLimit(per_minute=60, burst=2)
    assert [rate.take(0.0), rate.take(0.0), rate.take(0.0)] == [0.0, 0.0, 1.0]
    assert rate.take(0.5) == pytest.approx(0.5)
    assert rate.take(1.0) == 0.0


def test_zero_means_no_limit() -> None:
    rate = RateLimit(per_minute=0)
    assert all(rate.take(0.0) == 0.0 for _ in range(1000))
