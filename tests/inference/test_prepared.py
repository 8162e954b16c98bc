"""A prepared model: devices, batch sizes, threads, and that its maps are those of the model."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vad_helpers.attribution import explain
from vad_helpers.errors import InputError
from vad_helpers.inference import prepared as prepared_module
from vad_helpers.inference.chain import Chain, sequential
from vad_helpers.inference.prepared import computes_bf16, out_of_memory, prepare, resolve_device
from vad_helpers.model.i3d import InceptionI3d

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def two_threads(one_thread):
    torch.set_num_threads(2)


def means(x):
    return x.mean(dim=(2, 3, 4))


def chain_of(head=means):
    return sequential([nn.Conv3d(3, 2, 3, padding=1), nn.ReLU()], head)


def any_module():
    """A network that is no chain."""
    layers = nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, 2))


def grey_clip(shape=(4, 10, 12)):
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1, 1)


def test_devices_resolve(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [resolve_device(name).type for name in ("auto", "cuda", "cpu")] == ["cuda"] * 2 + ["cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    for name in ("cuda", "tpu"):
        with pytest.raises(InputError, match=name):
            resolve_device(name)


def test_bf16_is_computed_or_emulated(monkeypatch):
    for capability, native in [("AVX512", True), ("AVX2", False), ("DEFAULT", False)]:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=capability: name)
        assert computes_bf16("cpu") == computes_bf16(CPU) == native
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert not computes_bf16("cuda:0")


def test_i3d_is_folded_and_laid_out_and_any_other_module_is_used_as_it_is():
    network, net = InceptionI3d(width=0.1).eval(), any_module().double().eval()
    ready, plain = prepare(network, precision="bf16"), prepare(net)
    assert ready.model is not network and isinstance(ready.chain, Chain)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in ready.model.modules())
    assert ready.fit(torch.rand(1, 3, 2, 8, 8)).dtype == torch.bfloat16
    assert ready.layout == torch.channels_last_3d
    assert plain.model is net and plain.chain is None
    assert plain.placement(grey_clip()) == (CPU, torch.float64)
    assert prepare(means).placement(grey_clip()) == (CPU, torch.float32)
    clips = torch.rand(3, 3, 4, 10, 12)
    with torch.no_grad():
        torch.testing.assert_close(plain(clips), net(clips.double()), rtol=0, atol=0)
        rough, exact = ready(clips), network(clips)
        cast = prepare(net.float(), precision="bf16")(clips)  # of any other module by autocast
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))
    assert 0 < (cast.float() - plain.model(clips)).abs().max() < 0.02
    with torch.no_grad():  # a snapshot stays one
        network.Conv3d_1a_7x7.conv3d.weight.zero_()
        assert torch.equal(ready(clips), rough)


@pytest.mark.parametrize(("first", "asked"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_precisions_that_cannot_be_had_are_refused(first, asked):
    prepared = prepare(any_module(), precision=first)
    assert prepare(prepared, precision=first) is prepared
    with pytest.raises(InputError, match="prepared as"):
        prepare(prepared, precision=asked)
    with pytest.raises(InputError, match="fp8"):
        prepare(any_module(), precision="fp8")
    with pytest.raises(InputError, match="bare chain"):
        prepare(chain_of(), precision="bf16")


@pytest.mark.parametrize(("kind", "close"), [("float64", 1e-12), ("fp32", 1e-5), ("bf16", 2e-2)])
def test_three_equal_channels_are_convolved_as_one_without_gradients_alone(kind, close):
    network = InceptionI3d(width=0.1).eval()
    network = network.double() if kind == "float64" else network
    ready = prepare(network, precision="bf16" if kind == "bf16" else "fp32")
    channels, grey = [], torch.stack([grey_clip((8, 32, 40)), grey_clip((8, 32, 40)) ** 2])
    grey = grey.to(ready.dtype)
    weight = ready.model.Conv3d_1a_7x7.conv3d.weight
    assert ready.chain.takes_grey and not chain_of().takes_grey
    convolve, expected = nn.functional.conv3d, ready.evaluate(grey)  # with gradients enabled
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():

        def spy(x, own, *rest, **options):
            channels.append(x.shape[1] if len(own) == len(weight) else None)
            return convolve(x, own, *rest, **options)

        patch.setattr(nn.functional, "conv3d", spy)
        found = ready.evaluate(grey)
        first, before = channels[0], len(channels)
        coloured = ready.evaluate(grey + torch.tensor([0, 0, 0.5]).view(3, 1, 1, 1).to(grey))
    folded = 2 if kind == "bf16" else 1  # its columns are channels
    assert first == folded and channels[before] == 3 * folded
    scale = float(expected.abs().max())
    assert float((found - expected).abs().max()) <= close * scale
    assert float((coloured - expected).abs().max()) > 1e-3 * scale


class Work:
    """Takes `seconds[n]` an item on a clock of its own, and has memory for `most` items."""

    def __init__(self, monkeypatch, seconds, *, most=10**6, error=None, first=0.0):
        self.seconds, self.most, self.error, self.first = seconds, most, error, first
        self.now, self.done = 0.0, []
        monkeypatch.setattr(prepared_module, "time", self)

    def perf_counter(self):
        return self.now

    def __call__(self, n):
        self.done.append(n)
        if n > self.most:
            raise self.error
        self.now += n * self.seconds[n] + self.first
        self.first = 0.0


def size_of(work, name="work", prepared=None):
    return (prepared or prepare(means)).batch_size(name, work, device=CPU)


@pytest.mark.parametrize(
    ("seconds", "expected", "done"),
    [
        ([1.0, 0.5, 0.25, 0.125, 0.06], 16, [1, 1, 2, 4, 8, 16]),  # the most
        ([1.0, 0.5, 0.6, 0.1], 2, [1, 1, 2, 4]),  # what comes later is not tried
        ([1.0, 0.96], 1, [1, 1, 2]),  # hardly faster: the smaller one
        ([1.0, 0.94, 0.9], 2, [1, 1, 2, 4]),
    ],
)
def test_the_batch_doubles_while_an_item_gets_clearly_cheaper(seconds, expected, done, monkeypatch):
    monkeypatch.setattr(prepared_module, "MOST_CLIPS", 16)
    # The first call is not timed.
    work = Work(monkeypatch, {2**i: one for i, one in enumerate(seconds)}, first=100.0)
    prepared = prepare(means)
    assert [size_of(work, "a", prepared) for _ in range(2)] == [expected] * 2
    assert work.done == done  # measured once a name
    assert size_of(Work(monkeypatch, {1: 1.0, 2: 1.0}), "b", prepared) == 1


with pytest.raises(RuntimeError) as too_large:
    torch.empty(2**58)
OUT_OF_MEMORY = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    "Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    "this system": too_large.value,
    "oneDNN": RuntimeError("could not create a primitive"),
}


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_the_batch_ends_where_memory_does(kind, monkeypatch):
    error = OUT_OF_MEMORY[kind]
    work = Work(monkeypatch, {n: 1 / n for n in (1, 2, 4, 8)}, most=4, error=error)
    assert size_of(work) == 4
    assert work.done == [1, 1, 2, 4, 8]
    for other in (RuntimeError("shapes do not fit"), ValueError("not enough memory")):
        assert out_of_memory(error) and not out_of_memory(other)
        with pytest.raises(type(other)):
            size_of(Work(monkeypatch, {1: 1.0}, most=1, error=other))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("enabled", [True, False])
def test_spread_keeps_the_order_and_the_gradient_mode(enabled):
    prepared, first = prepare(chain_of()), threading.Event()

    def work(n):
        if n == 1:
            first.set()
        assert n or first.wait(5)  # the first one ends last
        return n, torch.is_grad_enabled(), torch.get_num_threads(), threading.get_ident()

    with torch.set_grad_enabled(enabled):
        found = prepared.spread(work, range(6), device=CPU)
        order, modes, threads, workers = zip(*found, strict=True)
    assert order == tuple(range(6)) and set(modes) == {enabled} and set(threads) == {1}
    assert 1 <= len(set(workers)) <= 2 and threading.get_ident() not in workers
    with ThreadPoolExecutor() as pool:  # a thread that is started later has as many as before
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_spread_raises_the_workers_error_in_its_turn():
    found = []
    with pytest.raises(KeyError):
        for one in prepare(chain_of()).spread({0: "a", 1: "b"}.__getitem__, range(4), device=CPU):
            found.append(one)
    assert found == ["a", "b"] and torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_chain_is_spread_over_threads_of_one_core_and_nothing_else_is():
    seen = []

    def noting(x):
        seen.append((threading.get_ident(), torch.get_num_threads(), len(x)))
        return means(x)

    clips = torch.rand(5, 3, 4, 10, 12)
    chain, here = chain_of(noting), threading.get_ident()
    with torch.no_grad():
        found = prepare(chain)(clips)
        assert sorted(n for _, _, n in seen) == [2, 3]
        assert {threads for _, threads, _ in seen} == {1}
        assert here not in {ident for ident, _, _ in seen}
        torch.testing.assert_close(found, chain(clips))
        seen.clear()
        prepare(noting)(clips)
    assert seen == [(here, 2, 5)]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("as_chain", [True, False])
@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("ig", {"n_steps": 30}),
        ("lime", {"n_samples": 30, "n_segments": 6, "alpha": 1e-5}),
        ("occlusion_sp", {"window": (2, 4, 4), "stride": (1, 3, 4)}),
    ],
)
def test_maps_depend_neither_on_the_batch_nor_on_memory_that_runs_out(key, settings, as_chain):
    # Of a chain, several boxes fill the memory of a clip.
    most, seen = (8 if key == "occlusion_sp" and as_chain else 2), []

    def head(x):
        seen.append(len(x))
        if len(x) > most:
            raise OUT_OF_MEMORY["this system"]
        return means(x)

    chain = chain_of(head)
    options = {"baseline": "black", "seed": 3, **settings}
    expected = explain(replace(chain, head=means), grey_clip(), key, batch_size=1, **options)
    model = chain if as_chain else (lambda clips: chain(clips))
    found = explain(model, grey_clip(), key, batch_size=32, **options)
    assert max(seen) > most >= seen[-1]
    assert expected.any()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    most = 0  # and for one clip it is an error
    with pytest.raises(RuntimeError, match="memory"):
        explain(model, grey_clip(), key, **options)


def test_ways_take_turns_and_the_first_turn_does_not_count(monkeypatch):
    turns, now = [], iter(range(1000))
    monkeypatch.setattr(prepared_module.time, "perf_counter", lambda: float(next(now)))
    ways = {name: lambda name=name: turns.append(name) or next(now) for name in "ab"}
    assert prepared_module.side_by_side(ways, device=CPU, repeats=2) == {"a": 2.0, "b": 2.0}
    assert turns == list("ababab")


def test_openvino_gives_the_same_logits(monkeypatch):
    pytest.importorskip("openvino", reason="the extra `fast` is not installed")
    clips = torch.stack([grey_clip((8, 20, 24)), grey_clip((8, 20, 24)).flip(1)])
    for network in (InceptionI3d(width=0.1), any_module()):
        network.train()
        ready, plain = prepare(network, engine="openvino"), prepare(network.eval())
        network.train()
        with torch.no_grad():
            found, expected = ready(clips), plain(clips) if plain.chain else network.eval()(clips)
        assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
    # Gradients are PyTorch's.
    ways = [prepare(network.eval(), engine=engine) for engine in ("openvino", "torch")]
    maps = [explain(way, clips[0], "ig", batch_size=1) for way in ways]
    assert np.array_equal(*maps)
    network.forward = lambda x: x.mean((2, 3, 4)) * (1 if x.sum() > 0 else -1)
    fickle = prepare(network, engine="openvino")
    with torch.no_grad(), pytest.raises(InputError, match="depend on the clip"):
        fickle(clips)


def test_openvino_refuses_what_it_cannot_keep_to(monkeypatch):
    with pytest.raises(InputError, match="unknown engine: 'tpu'"):
        prepare(any_module(), engine="tpu")
    monkeypatch.setattr(prepared_module, "has_openvino", lambda: True)
    for model in (lambda x: x, any_module().double()):
        with pytest.raises(InputError, match="give a float32 module on the CPU"):
            prepare(model, engine="openvino")
    monkeypatch.setattr(prepared_module, "has_openvino", lambda: False)
    with pytest.raises(InputError, match="is not installed"):
        prepare(any_module(), engine="openvino")
