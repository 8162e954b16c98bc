"""A prepared model: how it is spread over the cores, and what happens when memory runs out."""

import threading

import pytest
import torch

from vad_helpers.attribution import explain
from vad_helpers.attribution.prepared import prepare
from vad_helpers.chain import sequential

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def chain_of(head):
    return sequential([torch.nn.Conv3d(3, 2, 3, padding=1), torch.nn.ReLU()], head)


def means(x):
    return x.mean(dim=(2, 3, 4))


@pytest.mark.parametrize("enabled", [True, False])
def test_spread_keeps_the_order_and_the_gradient_mode(enabled):
    prepared = prepare(chain_of(means))
    first = threading.Event()

    def work(n):
        if n == 0:  # the first one ends last
            assert first.wait(5)
        elif n == 1:
            first.set()
        return n, torch.is_grad_enabled(), torch.get_num_threads(), threading.get_ident()

    with torch.set_grad_enabled(enabled):
        order, modes, threads, workers = zip(
            *prepared.spread(work, range(6), device=CPU), strict=True
        )
    assert order == tuple(range(6)) and set(modes) == {enabled} and set(threads) == {1}
    assert 1 <= len(set(workers)) <= 2 and threading.get_ident() not in workers
    assert torch.get_num_threads() == 2


def test_spread_raises_the_workers_error():
    def work(n):
        if n == 2:
            raise KeyError("third")
        return n

    found = []
    with pytest.raises(KeyError, match="third"):
        for one in prepare(chain_of(means)).spread(work, range(4), device=CPU):
            found.append(one)
    assert found == [0, 1] and torch.get_num_threads() == 2


def test_threads_started_later_have_as_many_threads_as_before():
    def fresh():
        found = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return found

    before = fresh()
    list(prepare(chain_of(means)).spread(lambda n: n, range(4), device=CPU))
    assert fresh() == before == [2]


@pytest.mark.parametrize("key", ["lime", "ig"])
def test_memory_that_runs_out_for_one_clip_is_an_error(key, make_clip, small_settings):
    calls = []

    def head(x):
        calls.append(len(x))
        if len(calls) > 50:
            raise KeyError("tried again and again")
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        explain(chain_of(head), make_clip(), key, **small_settings[key])
