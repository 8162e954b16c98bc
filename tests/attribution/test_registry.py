import contextlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from vad_helpers.attribution import METHODS, MethodSpec, attribute, baselines, explain, register
from vad_helpers.attribution.superpixels import slic
from vad_helpers.errors import InputError

pytestmark = pytest.mark.usefixtures("as_found")
ROOT = Path(__file__).parents[2]
STOCHASTIC = (
    *("ig_smoothgrad", "gradient_shap", "kernel_shap", "lime"),
    *("smoothgrad", "vargrad", "rise"),
)
SUPERPIXELS = {"n_segments": 80, "compactness": 60.0}
SAMPLES = {"n_samples": 25, "paired": False, "agreement": 0.0, **SUPERPIXELS}
SMOOTH = {"n_steps": 30, "n_samples": 5, "sigma": 1.0, "noise": "channels", "noisy_baseline": False}
# What the paper states, and what the protocol decides where it does not; model calls of a clip.
DEFAULTS = {
    "ig": ({"n_steps": 30, "channels": "sum"}, 30),
    "ig_smoothgrad": ({"channels": "sum", **SMOOTH}, 150),
    "guided_backprop": ({"channels": "sum"}, 1),
    "gradient_shap": ({"n_samples": 5, "sigma": 0.0, "channels": "sum"}, 5),
    "kernel_shap": (SAMPLES, 25),
    "lime": ({"alpha": 1e-3, "kernel_width": 1000.0, "relative": False, **SAMPLES}, 25),
    "occlusion_lp": ({"window": (10, 52, 78), "stride": (10, 32, 32)}, 61),
    "occlusion_sp": ({"window": (4, 16, 24), "stride": (2, 8, 8)}, 4789),
}
BEYOND = {
    "input_x_gradient": ({"channels": "sum"}, 1),
    "smoothgrad": ({"n_samples": 25, "sigma": 0.3, "channels": "sum"}, 25),
    "vargrad": ({"n_samples": 25, "sigma": 0.3}, 25),
    "grad_cam": ({"layer": "Mixed_5c"}, 1),
    "grad_cam_pp": ({"layer": "Mixed_5c"}, 1),
    "hirescam": ({"layer": "Mixed_4f"}, 1),
    "layercam": ({"layer": "Mixed_4f"}, 1),
    "lrp": ({"rule": "composite", "low": -1.0, "high": 1.0}, 1),
    "rise": (
        {"n_samples": 500, "grid": (2, 7, 7), "p_keep": 0.5, "paired": True, "agreement": 0.0},
        500,
    ),
}
every_method = pytest.mark.parametrize("key", [*DEFAULTS, *BEYOND])


def test_the_papers_eight_come_first_with_its_settings_and_the_protocols_calls():
    assert list(METHODS)[:8] == list(DEFAULTS) and BEYOND.keys() <= METHODS.keys()
    shape = (3, 20, 158, 237)
    for key, expected in (DEFAULTS | BEYOND).items():
        spec = METHODS[key]
        calls = spec.model_calls(spec.settings, shape, 77)
        assert (spec.settings, calls) == expected and spec.citation
        assert spec.complete({}, shape) == spec.settings


def test_default_precisions_are_those_that_the_study_on_real_clips_allows():
    (path,) = (ROOT / "benchmarks" / "results" / "precision").glob("*.json")
    allowed = {row["method"]: row["default"] for row in json.loads(path.read_text())["methods"]}
    assert {key: METHODS[key].precision for key in allowed} == allowed


@pytest.mark.filterwarnings("error")  # no method warns
@every_method
def test_an_explanation_holds_a_map_and_what_it_took_and_tells_its_progress(
    key, tiny_net, make_clip, small_settings, capsys
):
    told, clip, settings = [], make_clip(), {"seed": 5, **small_settings[key]}
    done = attribute(tiny_net, clip, key, progress=lambda *line: told.append(line), **settings)
    counts, totals = zip(*told, strict=True)
    assert set(totals) == {counts[-1]} == {done.model_calls}
    assert list(counts) == sorted(set(counts)) and capsys.readouterr() == ("", "")
    assert done.map.dtype == np.float32 and done.map.shape == (4, 10, 12)
    assert np.isfinite(done.map).all() and done.map.any()
    assert done.seconds >= done.baseline_seconds + done.superpixel_seconds >= 0
    assert (done.superpixel_seconds > 0) == METHODS[key].superpixels == ("n_segments" in done.info)
    assert (done.baseline_seconds > 0) == METHODS[key].uses_baseline
    uses = {*DEFAULTS, "rise"} - {"guided_backprop"}
    assert METHODS[key].uses_baseline == (key in uses)
    assert done.settings == {**METHODS[key].settings, **small_settings[key]}
    n_segments = done.info.get("n_segments")
    assert done.model_calls == METHODS[key].model_calls(done.settings, clip.shape, n_segments)
    alone = explain(tiny_net, clip, key, progress=True, **settings)
    np.testing.assert_array_equal(alone, done.map)
    shown = capsys.readouterr().err
    assert METHODS[key].name in shown and f"{done.model_calls}/{done.model_calls}" in shown


@every_method
def test_same_seed_same_map_and_generators_are_left_as_found(
    key, tiny_net, make_clip, small_settings
):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    clip, settings = make_clip(), small_settings[key]
    first = explain(tiny_net, clip, key, seed=1, **settings)
    np.random.rand(3), torch.rand(3), random.random()
    before = states()
    again = explain(tiny_net, clip, key, seed=1, **settings)
    assert states() == before
    other = explain(tiny_net, clip, key, seed=2, **settings)
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (key not in STOCHASTIC)


def snapshot(model):
    kinds = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    modules, parameters = list(model.modules()), list(model.parameters())
    return {
        "training": [module.training for module in modules],
        "state": {name: value.tolist() for name, value in model.state_dict().items()},
        "gradients": [(one.requires_grad, one.grad) for one in parameters],
        "hooks": [len(getattr(module, kind)) for module in modules for kind in kinds],
    }


@every_method
@pytest.mark.parametrize("target", [1, 3])
def test_model_and_clip_are_left_as_found_also_after_an_error(
    key, target, tiny_net, make_clip, small_settings
):
    tiny_net.train()
    tiny_net.body[1].eval()  # a frozen batch norm in a model in training
    tiny_net.head.weight.requires_grad_(False)
    modes, types = set(), set()

    def look(module, inputs):
        modes.update(part.training for part in module.modules())
        types.add(inputs[0].dtype)

    tiny_net.double().register_forward_pre_hook(look)
    clip, baseline = make_clip(), make_clip(seed=1)
    copies, before = (clip.clone(), baseline.clone()), snapshot(tiny_net)
    refused = pytest.raises(InputError, match="choose one of 0 to 2")
    with refused if target == 3 else contextlib.nullcontext():
        explain(tiny_net, clip, key, baseline=baseline, target=target, **small_settings[key])
    assert modes == {False} and types == {torch.float64}  # it ran in evaluation, in its own type
    assert snapshot(tiny_net) == before
    assert torch.equal(clip, copies[0]) and torch.equal(baseline, copies[1])
    assert not clip.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_method
def test_gpu_and_cpu_agree(key, tiny_net, make_clip, small_settings):
    settings = dict(small_settings[key])
    settings |= {"sigma": 0.0} if "sigma" in settings else {}
    cpu = explain(tiny_net.double(), make_clip(), key, **settings)
    state = torch.cuda.get_rng_state()
    gpu = explain(tiny_net.cuda(), make_clip(), key, **settings)
    np.testing.assert_allclose(gpu, cpu, rtol=1e-3, atol=1e-5 * np.abs(cpu).max())
    assert torch.equal(torch.cuda.get_rng_state(), state)


@pytest.mark.parametrize("key", ["lime", "kernel_shap"])
def test_superpixels_found_before_are_used(key, tiny_net, make_clip, small_settings, quarters):
    clip, settings = make_clip(), small_settings[key]
    done = attribute(tiny_net, clip, key, segments=quarters, **settings)
    assert done.info["n_segments"] == 4 and done.superpixel_seconds == 0
    values = [np.unique(done.map[quarters == one]) for one in range(4)]
    assert [len(one) for one in values] == [1] * 4 and len(np.unique(values)) > 1
    labels = slic(clip, n_segments=settings["n_segments"])
    given = explain(tiny_net, clip, key, segments=labels, **settings)
    np.testing.assert_array_equal(given, explain(tiny_net, clip, key, **settings))


@pytest.mark.parametrize("key", ["ig", "lime", "occlusion_lp"])
def test_an_all_zero_map_is_returned_with_a_warning(key, make_clip, small_settings):
    with pytest.warns(UserWarning, match=f"'{key}' returned an all-zero map"):
        flat = lambda clips: (clips * 0).sum(dim=(2, 3, 4))  # noqa: E731
        done = attribute(flat, make_clip(), key, **small_settings[key])
    assert not done.map.any() and done.info.get("n_nonzero", 0) == 0


@every_method
def test_nan_logits_are_an_error_in_one_line(key, tiny_net, make_clip, small_settings):
    torch.nn.init.constant_(tiny_net.head.bias, torch.nan)
    with pytest.raises(InputError, match=r"\A.*finite.*\Z"):
        explain(tiny_net, make_clip(), key, **small_settings[key])


CLIP = torch.zeros(3, 4, 10, 12)
BAD = [
    *({"method": one} for one in ("igg", "zzz", 3)),
    *({"baseline": one} for one in ("blue", 0.0, torch.zeros(3, 4, 10, 11))),
    *({"target": one} for one in (-1, 1.0, True, 3)),
    *({"seed": one} for one in (-1, 2**32)),
    *({"n_steps": one} for one in (0, 3.0, True, "3", None)),
    *({"precision": "fp16"}, {"black": "dark"}, {"batch_size": 0}, {"model": "i3d.pt"}),
    *({"n_step": 3}, {"window": (1, 1, 1)}, {"channels": "mean"}),
    *({"clip": CLIP.to(torch.uint8)}, {"clip": CLIP.numpy()}, {"clip": CLIP[None]}),
    *({"clip": one} for one in (CLIP[:1], CLIP[:, :0], CLIP / 0, CLIP + torch.inf)),
    *({"method": "ig_smoothgrad", "noise": one} for one in ("pink", 1)),
    *({"method": "smoothgrad", "sigma": one} for one in (-0.1, "0.1", True, torch.nan, torch.inf)),
    *({"method": "occlusion_sp", "window": one} for one in (4, (1, 2), (1, 2, 3.5), "abc")),
    *({"method": "kernel_shap", name: 1} for name in ("n_samples", "alpha", "n_segments")),
    {"method": "kernel_shap", "paired": 1},
    *({"method": "lime", name: 0} for name in ("kernel_width", "compactness", "n_segments")),
    *({"method": "lime", **one} for one in ({"alpha": -1.0}, {"segments": np.ones(3)})),
    *({"method": one, "agreement": 1.1} for one in ("lime", "kernel_shap", "rise")),
    *({"method": "rise", **one} for one in ({"p_keep": 1.0}, {"p_keep": 0.4}, {"grid": (2, 7)})),
]


@pytest.mark.parametrize("arguments", BAD, ids=str)
def test_bad_arguments_are_named_in_one_line(arguments, tiny_net, make_clip):
    (wrong,) = {*arguments} - {"method"} or {"method"}
    with pytest.raises(InputError, match=rf"\A.*{wrong}.*\Z"):
        explain(**{"model": tiny_net, "clip": make_clip(), "method": "ig", **arguments})


def spec(**fields):
    base = {
        "key": "mine",
        "name": "Mine",
        "family": "perturbation",
        "attribute": lambda probability, clip, baseline: clip[0],
        "model_calls": lambda settings, shape, n_segments: 0,
    }
    return MethodSpec(**{**base, **fields})


def test_a_registered_method_gets_what_the_contract_says(tiny_net, make_clip):
    seen = {}

    def spy(probability, clip, baseline, *, segments, weight):
        seen.update(locals(), numbers=(random.random(), np.random.rand(), float(torch.rand(()))))
        clips = clip[None].requires_grad_()
        (gradient,) = torch.autograd.grad(probability(clips).sum(), clips)
        return (gradient * clips)[0].sum(dim=0), {"note": "seen"}

    settings = {"weight": 1.5, "n_segments": 4, "compactness": 60.0}
    register(spec(attribute=spy, settings=settings, superpixels=True, limits={"weight": "> 0"}))
    with torch.inference_mode():  # gradients are there all the same
        clip = make_clip(grey=False) + 0.0
        done = attribute(tiny_net, clip, "mine", weight=2, n_segments=6, batch_size=3, seed=9)
    assert seen["weight"] == 2.0 and isinstance(seen["weight"], float)
    assert seen["probability"].model is tiny_net and seen["probability"].batch_size == 3
    assert seen["segments"].dtype == torch.int64 and seen["segments"].shape == (4, 10, 12)
    assert done.info == {"note": "seen", "n_segments": int(seen["segments"].max()) + 1}
    assert torch.equal(seen["clip"], clip) and seen["clip"].data_ptr() != clip.data_ptr()
    torch.testing.assert_close(seen["baseline"], baselines.make("blur", clip))
    random.seed(9), np.random.seed(9)
    drawn = torch.rand((), generator=torch.Generator().manual_seed(9))
    assert seen["numbers"] == (random.random(), np.random.rand(), float(drawn))
    assert done.model_calls == 1
    explain(tiny_net, clip, "mine", baseline="black", black=-0.7)
    assert (seen["baseline"] == -0.7).all()
    with pytest.raises(InputError, match="mine: weight is 0"):
        explain(tiny_net, clip, "mine", weight=0)


def test_settings_take_the_types_of_their_defaults(tiny_net, make_clip):
    defaults = {"n": 1, "real": 1.0, "word": "a", "flag": True, "sizes": (0.0, 0.0), "any": None}
    register(spec(attribute=lambda *_, **settings: _[1][0], settings=defaults))
    given = {"n": np.int64(-3), "real": np.float32(0.5), "word": "b", "flag": False}
    given |= {"sizes": [1, 2], "any": "x"}
    done = attribute(tiny_net, make_clip(), "mine", **given)
    assert done.settings == given | {"sizes": (1.0, 2.0)}
    kinds = {name: type(value) for name, value in done.settings.items()}
    assert kinds == {name: type(value) for name, value in defaults.items()} | {"any": str}


def test_a_taken_key_needs_overwrite_and_a_spec(tiny_net, make_clip):
    seen = []
    mine = spec(key="ig", uses_baseline=False, attribute=lambda p, c, b: seen.append(b) or c[0])
    with pytest.raises(InputError, match="'ig' exists already"):
        register(mine)
    register(mine, overwrite=True)
    explain(tiny_net, make_clip(), "ig")
    assert METHODS["ig"] is mine and seen == [None]
    with pytest.raises(InputError, match="give a MethodSpec"):
        register({"key": "mine"})
    wrong = {"key": "my method"}, {"key": 3}, {"family": "lime"}, {"settings": {"target": 1}}
    for changes in wrong:
        with pytest.raises(InputError, match="method"):
            spec(**changes)


def test_what_a_method_returns_is_checked(tiny_net, make_clip):
    clip = make_clip()
    for returned in (clip, None, clip[0] * torch.nan, clip[0].double().numpy() * 1e300):
        register(spec(attribute=lambda *_, found=returned: found), overwrite=True)
        with pytest.raises(InputError, match="'mine' returned"):
            explain(tiny_net, clip, "mine")
