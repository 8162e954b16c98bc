"""A prepared model: how it is spread over the cores, and what happens when memory runs out."""

import contextlib
import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from vad_helpers.attribution import METHODS, attribute, explain
from vad_helpers.attribution.probability import Probability, evaluating, seeded
from vad_helpers.errors import InputError
from vad_helpers.inference import prepared as prepared_module
from vad_helpers.inference.chain import sequential
from vad_helpers.inference.prepared import MOST_CLIPS, fastest_batch, out_of_memory, prepare
from vad_helpers.model.i3d import InceptionI3d

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def two_threads(one_thread):
    torch.set_num_threads(2)


def chain_of(head):
    return sequential([torch.nn.Conv3d(3, 2, 3, padding=1), torch.nn.ReLU()], head)


def means(x):
    return x.mean(dim=(2, 3, 4))


@contextlib.contextmanager
def fixed_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.usefixtures("two_threads")
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


@pytest.mark.usefixtures("two_threads")
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


@pytest.mark.usefixtures("two_threads")
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


@pytest.mark.usefixtures("two_threads")
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


# --- batch sizes -------------------------------------------------------------------------------


class Clock:
    """Time that passes by fake work alone."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(prepared_module, "time", made)
    return made


class Work:
    """Takes `seconds[n]` an item, and has memory for `most` items."""

    def __init__(self, clock, seconds, *, most=10**6, error=None):
        self.clock, self.seconds, self.most, self.error = clock, seconds, most, error
        self.done = []

    def __call__(self, n):
        self.done.append(n)
        if n > self.most:
            raise self.error
        self.clock.now += n * self.seconds[n]


@pytest.mark.parametrize(
    ("seconds", "expected", "done"),
    [
        ({1: 1.0, 2: 0.5, 4: 0.25, 8: 0.125, 16: 0.06}, 16, [1, 1, 2, 4, 8, 16]),
        ({1: 1.0, 2: 0.5, 4: 0.6, 8: 0.1}, 2, [1, 1, 2, 4]),  # what comes later is not tried
        ({1: 1.0, 2: 0.96}, 1, [1, 1, 2]),  # hardly faster: the smaller one
        ({1: 1.0, 2: 0.94, 4: 0.9}, 2, [1, 1, 2, 4]),
        ({1: 1.0, 2: 1.3}, 1, [1, 1, 2]),
    ],
)
def test_the_batch_doubles_while_an_item_gets_clearly_cheaper(seconds, expected, done, clock):
    work = Work(clock, seconds)
    assert fastest_batch(work, device=CPU, most=16) == expected
    assert work.done == done


def test_the_first_call_is_not_timed(clock):
    work = Work(clock, {1: 1.0, 2: 0.9, 4: 0.9})
    calls = iter([100.0])

    def slow_at_first(n):
        clock.now += next(calls, 0.0)
        work(n)

    assert fastest_batch(slow_at_first, device=CPU) == 2


def test_no_more_than_the_most_is_tried(clock):
    work = Work(clock, {n: 1 / n for n in (1, 2, 4, 8, 16, 32, 64, 128)})
    assert fastest_batch(work, device=CPU) == MOST_CLIPS == max(work.done)


def cpu_error():
    """What PyTorch's allocator says on this system."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    return caught.value


OUT_OF_MEMORY = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    "Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    "Linux": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
    "this system": cpu_error(),
}


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_the_batch_ends_where_memory_does(kind, clock):
    work = Work(clock, {n: 1 / n for n in (1, 2, 4, 8)}, most=4, error=OUT_OF_MEMORY[kind])
    assert fastest_batch(work, device=CPU) == 4
    assert work.done == [1, 1, 2, 4, 8]


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not fit"), ValueError("not enough memory"), KeyError("x")]
)
def test_other_errors_are_not_taken_for_a_lack_of_memory(error, clock):
    assert not out_of_memory(error)
    with pytest.raises(type(error)):
        fastest_batch(Work(clock, {1: 1.0}, most=1, error=error), device=CPU)


def test_a_batch_size_is_measured_once_a_name(clock):
    prepared = prepare(means)
    works = [Work(clock, {1: 1.0, 2: 0.5, 4: 0.5}), Work(clock, {1: 1.0, 2: 1.0})]
    first = [prepared.batch_size("first", works[0], device=CPU) for _ in range(3)]
    other = prepared.batch_size("other", works[1], device=CPU)
    assert first == [2, 2, 2] and other == 1
    assert works[0].done == [1, 1, 2, 4] and works[1].done == [1, 1, 2]
    assert prepared.batch_size("first", works[1], device=CPU) == 2 and len(works[1].done) == 3


@pytest.mark.parametrize("key", ["ig", "kernel_shap"])
def test_explaining_measures_a_prepared_model_once_and_another_not_at_all(
    key, make_clip, small_settings
):
    seen = []

    def model(clips):
        seen.append(len(clips))
        return means(clips)

    def n_clips(subject, shape=(4, 10, 12)):
        seen.clear()
        done = attribute(subject, make_clip(shape), key, **small_settings[key])
        return sum(seen) - done.model_calls

    prepared = prepare(model)
    assert n_clips(prepared) > 0
    assert n_clips(prepared) == 0
    assert n_clips(prepared, (4, 10, 13)) > 0  # another size, another batch
    assert n_clips(model) == 0


# --- memory that runs out ----------------------------------------------------------------------


class Narrow(torch.nn.Module):
    """A network that has memory for so many clips at once, and notes how many it was given."""

    def __init__(self, network, most, error):
        super().__init__()
        self.network, self.most, self.error = network, most, error
        self.seen = []

    def forward(self, clips):
        self.seen.append(len(clips))
        if len(clips) > self.most:
            raise self.error
        return self.network(clips)


BATCHED = [key for key in METHODS if key != "guided_backprop"]


@pytest.mark.parametrize("kind", ["torch", "this system"])
@pytest.mark.parametrize("key", BATCHED)
def test_half_the_batch_is_tried_where_memory_runs_out(
    kind, key, tiny_net, make_clip, small_settings
):
    error = OUT_OF_MEMORY[kind]
    settings = {"baseline": "black", "seed": 3, **small_settings[key]}
    if METHODS[key].family == "gradient":
        settings |= {"gradient_shap": {"n_samples": 12, "sigma": 0.0}}.get(key, {"n_steps": 12})
    narrow = Narrow(tiny_net, 2, error)
    found = attribute(narrow, make_clip(), key, batch_size=9, **settings)
    expected = attribute(tiny_net, make_clip(), key, batch_size=2, **settings)
    np.testing.assert_array_equal(found.map, expected.map)
    assert found.model_calls == expected.model_calls
    assert max(narrow.seen) > 2 and narrow.seen[-1] <= 2
    assert found.map.any()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("key", ["ig", "gradient_shap", "lime", "occlusion_sp"])
def test_half_the_batch_is_tried_for_a_chain(key, make_clip, small_settings):
    seen = []
    most = 8 if key == "occlusion_sp" else 2  # small boxes instead of clips

    def head(x):
        seen.append(len(x))
        if len(x) > most:
            raise OUT_OF_MEMORY["torch"]
        return means(x)

    settings = {"baseline": "black", "seed": 3, **small_settings[key]}
    settings |= {"n_steps": 30} if key == "ig" else {}
    settings |= {"n_samples": 30} if key in ("lime", "gradient_shap") else {}
    settings |= {"sigma": 0.0} if key == "gradient_shap" else {}
    with fixed_weights():
        chain = chain_of(head)
    found = explain(chain, make_clip(), key, batch_size=32, **settings)
    assert max(seen) > most and max(seen[-2:]) <= most
    unlimited = replace(chain, head=means)
    expected = explain(unlimited, make_clip(), key, batch_size=2, **settings)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_other_errors_are_not_tried_again(tiny_net, make_clip):
    narrow = Narrow(tiny_net, 2, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        explain(narrow, make_clip(), "ig", batch_size=8)
    assert narrow.seen == [8]


# --- the map is that of the model --------------------------------------------------------------


def exact_map(model, clip, key, settings, batch_size):
    """In the model's own type: `explain` rounds it to float32."""
    settings = dict(settings)
    if METHODS[key].superpixels:
        settings.pop("n_segments")
        labels = np.arange(clip[0].numel()).reshape(clip.shape[1:]) // 60
        settings["segments"] = torch.from_numpy(labels)
    complete = {
        name: value
        for name, value in METHODS[key].settings.items()
        if name not in ("n_segments", "compactness")
    }
    probability = Probability(prepare(model), batch_size=batch_size, example=clip)
    with evaluating(probability.model), seeded(7, CPU):
        found = METHODS[key].attribute(
            probability, clip, torch.zeros_like(clip), **{**complete, **settings}
        )
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize(("as_chain", "threads"), [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("key", BATCHED)
def test_the_map_does_not_depend_on_the_batch_size(
    key, as_chain, threads, tiny_net, make_clip, small_settings
):
    torch.set_num_threads(threads)
    tiny_net.double().eval()
    model = tiny_net
    if as_chain:
        convolution, norm, relu, _ = tiny_net.body
        model = sequential([convolution, norm, relu], lambda x: tiny_net.head(means(x)))
    clip = make_clip(dtype=torch.float64)
    expected, *others = (
        exact_map(model, clip, key, small_settings[key], size) for size in (1, 3, 64)
    )
    assert expected.abs().max() > 0
    for found in others:
        difference = float((found - expected).abs().max())
        assert difference <= 1e-12 * float(expected.abs().max())


@pytest.fixture(scope="module")
def i3d():
    with fixed_weights():
        network = InceptionI3d(width=0.1)
        network.logits.conv3d.weight.data.mul_(30)
    return network.eval()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("key", METHODS)
def test_a_model_and_the_same_prepared_give_one_map(
    key, precision, i3d, tiny_net, make_clip, small_settings
):
    for model, shape in ((tiny_net, (4, 10, 12)), (i3d, (16, 20, 24))):
        settings = dict(small_settings[key])
        if "window" in settings and model is i3d:
            settings |= {"window": (8, 10, 12), "stride": (8, 10, 12)}
        options = {"precision": precision, "batch_size": 2, "seed": 4, **settings}
        clip = make_clip(shape)
        expected = explain(model, clip, key, **options)
        found = explain(prepare(model, precision=precision), clip, key, **options)
        assert expected.any()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("prepared_for", "asked"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_a_model_prepared_for_another_precision_is_refused(
    prepared_for, asked, tiny_net, make_clip
):
    prepared = prepare(tiny_net, precision=prepared_for)
    with pytest.raises(InputError, match=f"precision of a model prepared before: '{asked}'"):
        explain(prepared, make_clip(), "ig", precision=asked)
    with pytest.raises(InputError, match="precision of a model prepared before"):
        prepare(prepared, precision=asked)
    assert prepare(prepared, precision=prepared_for) is prepared


def test_a_model_in_training_comes_back_in_training_and_a_snapshot_stays_one(i3d, make_clip):
    network = copy.deepcopy(i3d).train()
    prepared = prepare(network)
    clip = make_clip((16, 20, 24))
    before = explain(prepared, clip, "guided_backprop")
    assert all(module.training for module in network.modules())
    with torch.no_grad():
        network.Conv3d_1a_7x7.conv3d.weight.zero_()
    np.testing.assert_array_equal(explain(prepared, clip, "guided_backprop"), before)
    np.testing.assert_array_equal(explain(i3d, clip, "guided_backprop"), before)


# --- threads -----------------------------------------------------------------------------------


class Watching(torch.nn.Module):
    """Notes the threads that call it."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, set()

    def forward(self, clips):
        self.seen.add((threading.get_ident(), torch.get_num_threads()))
        return self.network(clips)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("key", METHODS)
def test_a_model_that_is_no_chain_stays_in_one_thread(key, tiny_net, make_clip, small_settings):
    watching = Watching(tiny_net)
    settings = {"batch_size": 4, **small_settings[key]}
    models = [watching] if key == "guided_backprop" else [watching, lambda clips: watching(clips)]
    for model in models:
        explain(model, make_clip(), key, **settings)
        explain(prepare(model), make_clip(), key, **settings)
    assert watching.seen == {(threading.get_ident(), 2)}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("key", ["ig", "lime", "occlusion_sp"])
def test_a_chain_is_spread_over_threads_of_one_core_each(key, make_clip, small_settings):
    seen = set()

    def head(x):
        seen.add((threading.get_ident(), torch.get_num_threads()))
        return means(x)

    explain(chain_of(head), make_clip(), key, batch_size=2, **small_settings[key])
    workers = {ident for ident, threads in seen if threads == 1}
    assert workers and threading.get_ident() not in workers
    assert torch.get_num_threads() == 2
