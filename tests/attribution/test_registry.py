import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from vad_helpers.attribution import METHODS, attribute, checks, explain
from vad_helpers.attribution import baselines as baselines_module
from vad_helpers.errors import InputError

ROOT = Path(__file__).parents[2]
KEYS = (
    "ig ig_smoothgrad guided_backprop gradient_shap kernel_shap lime occlusion_lp occlusion_sp"
).split()
STOCHASTIC = ("ig_smoothgrad", "gradient_shap", "kernel_shap", "lime")
# What the paper states, and what the protocol decides where it does not.
DEFAULTS = {
    "ig": {"n_steps": 30, "channels": "sum"},
    "ig_smoothgrad": {
        "n_steps": 30,
        "n_samples": 5,
        "sigma": 1.0,
        "channels": "sum",
        "noise": "channels",
        "noisy_baseline": False,
    },
    "guided_backprop": {"channels": "sum"},
    "gradient_shap": {"n_samples": 5, "sigma": 0.0, "channels": "sum"},
    "kernel_shap": {"n_samples": 25, "paired": False, "n_segments": 80, "compactness": 60.0},
    "lime": {
        "n_samples": 25,
        "alpha": 1e-3,
        "kernel_width": 1000.0,
        "paired": False,
        "n_segments": 80,
        "compactness": 60.0,
    },
    "occlusion_lp": {"window": (10, 52, 78), "stride": (10, 32, 32)},
    "occlusion_sp": {"window": (4, 16, 24), "stride": (2, 8, 8)},
}
DEFAULT_CALLS = {
    "ig": 30,
    "ig_smoothgrad": 150,
    "guided_backprop": 1,
    "gradient_shap": 5,
    "kernel_shap": 25,
    "lime": 25,
    "occlusion_lp": 61,
    "occlusion_sp": 4789,
}


# --- the eight methods ------------------------------------------------------------------------


def test_methods_are_the_papers_eight_with_its_settings():
    assert list(METHODS) == KEYS
    assert {key: METHODS[key].settings for key in KEYS} == DEFAULTS


def test_predicted_calls_at_full_size_are_the_protocols():
    predicted = {
        key: METHODS[key].model_calls(METHODS[key].settings, (3, 20, 158, 237), 77) for key in KEYS
    }
    assert predicted == DEFAULT_CALLS


def test_default_precisions_are_those_that_the_study_on_real_clips_allows():
    (path,) = (ROOT / "benchmarks" / "results" / "precision").glob("*.json")
    allowed = {row["method"]: row["default"] for row in json.loads(path.read_text())["methods"]}
    assert {key: METHODS[key].precision for key in KEYS} == allowed


def test_methods_know_family_precision_and_source():
    gradient = [key for key in KEYS if METHODS[key].family == "gradient"]
    assert gradient == ["ig", "ig_smoothgrad", "guided_backprop", "gradient_shap"]
    assert all(METHODS[key].citation and METHODS[key].reference for key in KEYS)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_measured_calls_equal_the_predicted(key, batch_size, tiny_net, make_clip, small_settings):
    clip, settings = make_clip(), small_settings[key]
    rows = []
    tiny_net.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    done = attribute(tiny_net, clip, key, batch_size=batch_size, **settings)
    complete = {**METHODS[key].settings, **settings}
    predicted = METHODS[key].model_calls(complete, tuple(clip.shape), done.info.get("n_segments"))
    assert done.model_calls == predicted == sum(rows)
    assert max(rows) <= batch_size


@pytest.mark.parametrize("key", KEYS)
def test_map_is_a_finite_float32_of_the_clips_frames(key, tiny_net, make_clip, small_settings):
    done = attribute(tiny_net, make_clip(), key, **small_settings[key])
    assert done.map.dtype == np.float32 and done.map.shape == (4, 10, 12)
    assert np.isfinite(done.map).all() and done.map.any()
    assert done.seconds >= done.baseline_seconds + done.superpixel_seconds >= 0
    assert (done.superpixel_seconds > 0) == METHODS[key].superpixels == ("n_segments" in done.info)
    assert (done.baseline_seconds > 0) == METHODS[key].uses_baseline == (key != "guided_backprop")


@pytest.mark.parametrize("key", KEYS)
def test_explain_is_the_map_of_attribute(key, tiny_net, make_clip, small_settings):
    clip = make_clip()
    alone = explain(tiny_net, clip, key, seed=5, **small_settings[key])
    np.testing.assert_array_equal(
        alone, attribute(tiny_net, clip, key, seed=5, **small_settings[key]).map
    )


@pytest.mark.parametrize("key", KEYS)
def test_batch_size_changes_the_map_by_rounding_only(key, tiny_net, make_clip, small_settings):
    one, five = (
        explain(tiny_net.double(), make_clip(), key, batch_size=size, **small_settings[key])
        for size in (1, 5)
    )
    np.testing.assert_allclose(one, five, rtol=1e-4, atol=1e-7 * np.abs(one).max())


@pytest.mark.parametrize("key", KEYS)
def test_a_plain_function_is_explained_like_its_module(key, tiny_net, make_clip, small_settings):
    tiny_net.eval()
    if key == "guided_backprop":
        with pytest.raises(InputError, match="needs a torch.nn.Module"):
            explain(lambda clips: tiny_net(clips), make_clip(), key)
        return
    module, function = (
        explain(model, make_clip(), key, **small_settings[key])
        for model in (tiny_net, lambda clips: tiny_net(clips))
    )
    np.testing.assert_array_equal(module, function)


@pytest.mark.filterwarnings("ignore:.*all-zero map")
@pytest.mark.parametrize("key", KEYS)
def test_target_chooses_the_explained_class(key, tiny_net, make_clip, small_settings):
    # The probabilities of all classes sum to one, so their attributions sum to zero, except
    # where a LASSO or guided back-propagation bends them.
    maps = [
        explain(tiny_net.double(), make_clip(), key, target=target, **small_settings[key])
        for target in range(3)
    ]
    assert not np.array_equal(maps[0], maps[1])
    if key not in ("lime", "guided_backprop"):
        np.testing.assert_allclose(sum(maps), 0, atol=1e-4 * np.abs(maps[0]).max())


# --- seeds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_same_seed_same_map_and_another_seed_another(key, tiny_net, make_clip, small_settings):
    clip, settings = make_clip(), small_settings[key]
    first = explain(tiny_net, clip, key, seed=1, **settings)
    np.random.rand(3), torch.rand(3), random.random()
    again = explain(tiny_net, clip, key, seed=1, **settings)
    other = explain(tiny_net, clip, key, seed=2, **settings)
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (key not in STOCHASTIC)


@pytest.mark.parametrize("key", KEYS)
def test_global_generators_are_left_as_found(key, tiny_net, make_clip, small_settings):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    explain(tiny_net, make_clip(), key, seed=3, **small_settings[key])
    assert states() == before


# --- the model is left as found ---------------------------------------------------------------


def snapshot(model):
    return {
        "training": [module.training for module in model.modules()],
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grad": [parameter.grad for parameter in model.parameters()],
        "hooks": [
            len(hooks)
            for module in model.modules()
            for hooks in (
                module._forward_hooks,
                module._forward_pre_hooks,
                module._backward_hooks,
                module._backward_pre_hooks,
            )
        ],
    }


@pytest.mark.parametrize("key", KEYS)
def test_model_and_clip_are_left_as_found(key, tiny_net, make_clip, small_settings):
    tiny_net.train()
    tiny_net.body[1].eval()  # a frozen batch norm in a model in training
    tiny_net.head.weight.requires_grad_(False)
    clip, baseline = make_clip(), make_clip(seed=1)
    copies = clip.clone(), baseline.clone()
    before = snapshot(tiny_net)
    explain(tiny_net, clip, key, baseline=baseline, **small_settings[key])
    after = snapshot(tiny_net)
    for name, value in before.pop("state").items():
        torch.testing.assert_close(after["state"][name], value, rtol=0, atol=0)
    del after["state"]
    assert after == before
    assert torch.equal(clip, copies[0]) and torch.equal(baseline, copies[1])
    assert not clip.requires_grad


def test_model_runs_in_evaluation_mode(tiny_net, make_clip, small_settings):
    modes = []
    tiny_net.train().register_forward_hook(
        lambda module, *_: modes.extend(part.training for part in module.modules())
    )
    explain(tiny_net, make_clip(), "lime", **small_settings["lime"])
    assert modes and not any(modes)
    assert tiny_net.training


def test_model_is_restored_after_an_error(tiny_net, make_clip):
    tiny_net.train()
    before = snapshot(tiny_net)
    for key in ("guided_backprop", "lime"):
        with pytest.raises(InputError, match="target is 3"):
            explain(tiny_net, make_clip(), key, target=3)
    after = snapshot(tiny_net)
    assert after["training"] == before["training"] and after["hooks"] == before["hooks"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(key, mode, tiny_net, make_clip, small_settings):
    expected = explain(tiny_net, make_clip(), key, **small_settings[key])
    with mode():
        clip = make_clip() + 0.0
        np.testing.assert_array_equal(explain(tiny_net, clip, key, **small_settings[key]), expected)


# --- precision, device ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*all-zero map")
@pytest.mark.parametrize("key", KEYS)
def test_bf16_is_close_to_fp32_and_returned_as_float32(key, tiny_net, make_clip, small_settings):
    types = set()
    tiny_net.body[0].register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    settings = {**small_settings[key], **({"alpha": 1e-4} if key == "lime" else {})}
    full = explain(tiny_net, make_clip(), key, **settings)
    assert types == {torch.float32}
    types.clear()
    half = explain(tiny_net, make_clip(), key, precision="bf16", **settings)
    assert types == {torch.bfloat16}
    assert half.dtype == np.float32
    if METHODS[key].family == "gradient":  # differences of probabilities drown in bf16 here
        assert np.corrcoef(full.ravel(), half.ravel())[0, 1] > 0.95


def test_clip_follows_the_models_floating_type(tiny_net, make_clip):
    types = set()
    tiny_net.double().register_forward_pre_hook(lambda module, inputs: types.add(inputs[0].dtype))
    assert explain(tiny_net, make_clip(), "ig", n_steps=2).dtype == np.float32
    assert types == {torch.float64}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("key", KEYS)
def test_gpu_and_cpu_agree(key, tiny_net, make_clip, small_settings):
    settings = {**small_settings[key], **({"sigma": 0.0} if key == "ig_smoothgrad" else {})}
    settings = {**settings, **({"sigma": 0.0} if key == "gradient_shap" else {})}
    cpu = explain(tiny_net.double(), make_clip(), key, **settings)
    state = torch.cuda.get_rng_state()
    gpu = explain(tiny_net.cuda(), make_clip(), key, **settings)
    np.testing.assert_allclose(gpu, cpu, rtol=1e-3, atol=1e-5 * np.abs(cpu).max())
    assert torch.equal(torch.cuda.get_rng_state(), state)


# --- baselines --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key in KEYS if key != "guided_backprop"])
@pytest.mark.parametrize("name", ["blur", "strong_blur", "spacetime_blur", "black"])
def test_a_named_baseline_is_the_tensor_that_make_returns(
    key, name, tiny_net, make_clip, small_settings
):
    clip = make_clip()
    tensor = baselines_module.make(name, clip, black=-0.7)
    named = explain(tiny_net, clip, key, baseline=name, black=-0.7, **small_settings[key])
    given = explain(tiny_net, clip, key, baseline=tensor, **small_settings[key])
    np.testing.assert_array_equal(named, given)


def test_blur_is_the_default_baseline(tiny_net, make_clip):
    default, blur, black = (
        explain(tiny_net, make_clip(), "ig", n_steps=3, **chosen)
        for chosen in ({}, {"baseline": "blur"}, {"baseline": "black"})
    )
    np.testing.assert_array_equal(default, blur)
    assert not np.array_equal(default, black)


# --- progress ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_progress_counts_model_calls_up_to_the_predicted(
    key, tiny_net, make_clip, small_settings, capsys
):
    done = attribute(tiny_net, make_clip(), key, progress=True, **small_settings[key])
    shown = capsys.readouterr().err
    assert METHODS[key].name in shown
    assert f"{done.model_calls}/{done.model_calls}" in shown


@pytest.mark.parametrize("key", KEYS)
def test_a_function_is_told_the_progress_and_nothing_is_printed(
    key, tiny_net, make_clip, small_settings, capsys
):
    told = []
    options = {"progress": lambda *line: told.append(line), **small_settings[key]}
    done = attribute(tiny_net, make_clip(), key, **options)
    assert {total for _, total in told} == {done.model_calls}
    counts = [count for count, _ in told]
    assert counts == sorted(set(counts)) and counts[-1] == done.model_calls
    assert capsys.readouterr() == ("", "")
    np.testing.assert_array_equal(
        done.map, explain(tiny_net, make_clip(), key, **small_settings[key])
    )


def test_what_the_told_function_raises_ends_the_explanation(tiny_net, make_clip):
    class Enough(Exception):
        pass

    told = []

    def stop_at_four(done, total):
        told.append(done)
        if done >= 4:
            raise Enough

    with pytest.raises(Enough):
        explain(tiny_net, make_clip(), "ig", n_steps=20, batch_size=2, progress=stop_at_four)
    assert told[-1] == 4
    assert explain(tiny_net, make_clip(), "ig", n_steps=2).any()  # nothing is left behind


def test_no_progress_prints_nothing(tiny_net, make_clip, capsys):
    explain(tiny_net, make_clip(), "ig", n_steps=2)
    assert capsys.readouterr() == ("", "")


# --- maps that explain nothing ----------------------------------------------------------------


@pytest.mark.parametrize("key", ["ig", "lime", "occlusion_lp"])
def test_an_all_zero_map_is_returned_with_a_warning(key, make_clip, small_settings):
    def constant(clips):
        return (clips * 0).sum(dim=(2, 3, 4))

    with pytest.warns(UserWarning, match=f"'{key}' returned an all-zero map"):
        done = attribute(constant, make_clip(), key, **small_settings[key])
    assert not done.map.any()
    if key == "lime":
        assert done.info["n_nonzero"] == 0


@pytest.mark.parametrize("key", KEYS)
def test_nan_logits_are_an_error_that_names_the_method(key, make_clip, small_settings):
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = torch.nn.ReLU()

        def forward(self, clips):
            return self.relu(clips).sum(dim=(2, 3, 4)) * float("nan")

    with pytest.raises(InputError, match=f"'{key}'") as caught:
        explain(Broken(), make_clip(), key, **small_settings[key])
    assert "\n" not in str(caught.value)


# --- input that cannot be used ----------------------------------------------------------------

BAD_ARGUMENTS = {
    "method typo": ({"method": "igg"}, "unknown method: 'igg'; did you mean 'ig'"),
    "method unlike any": ({"method": "zzz"}, "choose from ig, ig_smoothgrad"),
    "method no string": ({"method": 3}, "unknown method: 3"),
    "baseline typo": ({"baseline": "blue"}, "unknown baseline: 'blue'; did you mean 'blur'"),
    "baseline number": ({"baseline": 0.0}, "unknown baseline: 0.0"),
    "baseline shape": ({"baseline": torch.zeros(3, 4, 10, 11)}, "the same shape"),
    "baseline NaN": ({"baseline": torch.full((3, 4, 10, 12), torch.nan)}, "baseline holds NaN"),
    "precision": ({"precision": "fp16"}, "unknown precision: 'fp16'; did you mean"),
    "target negative": ({"target": -1}, "target is -1"),
    "target no int": ({"target": 1.0}, "target is 1.0; give a whole number"),
    "target bool": ({"target": True}, "target is True"),
    "target too large": ({"target": 3}, "choose one of 0 to 2"),
    "seed negative": ({"seed": -1}, "seed is -1"),
    "seed too large": ({"seed": 2**32}, "at most 4294967295"),
    "black no number": ({"black": "dark"}, "black is 'dark'"),
    "progress": ({"progress": 1}, "give True or False"),
    "batch size": ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
    "setting typo": ({"n_step": 3}, "no setting 'n_step'; did you mean 'n_steps'"),
    "setting of another": ({"window": (1, 1, 1)}, "method 'ig' has no setting 'window'"),
    "setting type": ({"n_steps": 3.0}, "ig: n_steps is 3.0; give a whole number"),
    "setting value": ({"n_steps": 0}, "ig: n_steps is 0; it must be at least 1"),
    "clip no tensor": ({"clip": np.zeros((3, 4, 10, 12))}, "give a torch tensor"),
    "clip integers": ({"clip": torch.zeros(3, 4, 10, 12, dtype=torch.uint8)}, "normalise"),
    "clip batch": ({"clip": torch.zeros(1, 3, 4, 10, 12)}, "without a batch axis"),
    "clip channels": ({"clip": torch.zeros(1, 4, 10, 12)}, "(3, T, H, W)"),
    "clip empty": ({"clip": torch.zeros(3, 0, 10, 12)}, "(3, T, H, W)"),
    "clip NaN": ({"clip": torch.full((3, 4, 10, 12), torch.nan)}, "clip holds NaN"),
    "clip infinite": ({"clip": torch.full((3, 4, 10, 12), torch.inf)}, "clip holds NaN"),
    "model": ({"model": "i3d.pt"}, "the model is a str"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_are_named_in_one_line(case, tiny_net, make_clip):
    arguments, message = BAD_ARGUMENTS[case]
    arguments = {"model": tiny_net, "clip": make_clip(), "method": "ig", **arguments}
    with pytest.raises(InputError) as caught:
        explain(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_without_settings_says_so():
    with pytest.raises(InputError, match="'own' has no setting 'n_steps'.*none"):
        checks.settings("own", {"n_steps": 3}, {})
