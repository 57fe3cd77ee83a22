"""Many small reads at once, with their results in order."""

import threading
from itertools import count

import pytest

from agatha_ckpt._filesystem.parallel import map_ordered


@pytest.mark.parametrize("concurrent", [True, False])
def test_results_come_in_order_and_few_items_are_taken_ahead_P10(concurrent):
    taken = []

    def items():
        for number in count():
            taken.append(number)
            yield number

    results = map_ordered(lambda number: number * 2, items(), concurrent)
    for number in range(300):
        assert next(results) == number * 2
        assert len(taken) <= number + 100
    results.close()


def test_calls_run_at_once_only_where_they_may():
    together = threading.Barrier(2, timeout=30)
    assert len(list(map_ordered(lambda _: together.wait(), range(2)))) == 2
    threads = set(map_ordered(lambda _: threading.get_ident(), range(9), False))
    assert threads == {threading.get_ident()}


def test_an_error_is_raised_in_the_place_of_its_result():
    called = []

    def call(number):
        called.append(number)
        return 1 // (3 - number)

    results = map_ordered(call, range(10_000))
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(called) < 200
