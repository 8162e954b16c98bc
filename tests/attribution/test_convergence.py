import numpy as np
import pytest
import torch

from vad_helpers.attribution import explain
from vad_helpers.attribution.convergence import converge
from vad_helpers.errors import InputError
from vad_helpers.inference import prepared


@pytest.fixture
def case(planted):
    region = np.zeros((4, 24, 24), dtype=bool)
    region[:, 4:16, 4:16] = True
    generator = torch.Generator().manual_seed(0)
    return planted(region), torch.rand(3, 4, 24, 24, generator=generator)


def test_samples_double_until_two_seeds_agree(case):
    found = converge(*case, "kernel_shap", start=4, most=512, n_segments=9, baseline="black")
    assert found["n_samples"].tolist() == [4 * 2**k for k in range(len(found))]
    assert found["converged"].tolist() == [False] * (len(found) - 1) + [True]
    assert found["correlation"].iloc[-1] >= 0.95 > found["correlation"].iloc[0]


class Counting(torch.nn.Module):
    """The planted model, counting the clips that it is asked for."""

    def __init__(self, model):
        super().__init__()
        self.model, self.n_clips = model, 0

    def forward(self, clips):
        self.n_clips += len(clips)
        return self.model(clips)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("lime", {}),
        ("lime", {"paired": True, "batch_size": 3}),
        ("kernel_shap", {}),
        ("kernel_shap", {"paired": True}),
    ],
)
def test_samples_of_smaller_numbers_are_not_asked_again_and_maps_are_those_of_explain(
    case, method, options
):
    model, clip = case
    counted, settings = Counting(model), {"n_segments": 60, "baseline": "black", **options}
    found = converge(counted, clip, method, start=8, most=64, threshold=1.0, **settings)
    assert found["n_samples"].tolist() == [8, 16, 32, 64]
    # Captum asks for the clip itself too, before it draws.
    assert counted.n_clips <= 2 * (64 + 2)
    for n_samples, correlation in found[["n_samples", "correlation"]].itertuples(index=False):
        maps = [explain(model, clip, method, n_samples=n_samples, seed=seed, **settings)
                for seed in (0, 1)]  # fmt: skip
        assert correlation == pytest.approx(np.corrcoef(*(m.ravel() for m in maps))[0, 1], abs=1e-6)


def test_a_prepared_models_batch_size_is_measured_once_and_not_answered_from_memory(
    case, monkeypatch
):
    model, clip = case
    sizes, timed = [], []

    def network(clips):
        sizes.append(len(clips))
        return model(clips)

    def fastest(work, *, device):
        work(3)
        work(3)
        timed.extend(sizes)
        return 7

    monkeypatch.setattr(prepared, "fastest_batch", fastest)
    ready = prepared.prepare(network)
    converge(ready, clip, "lime", start=21, most=42, threshold=1.0, n_segments=60, alpha=1e-6)
    assert timed == [3, 3]
    assert max(sizes[2:]) == 7


def test_methods_with_gradients_double_their_samples_too(tiny_net, make_clip):
    # On the planted model two seeds agree to the last digit, and may stop the doubling at once.
    case = tiny_net, make_clip()
    found = converge(*case, "gradient_shap", start=2, most=4, threshold=1.0, baseline="black")
    assert found["n_samples"].tolist() == [2, 4] and (found["correlation"].abs() <= 1).all()


def test_a_model_in_bf16_is_asked_in_bf16(case):
    model, clip = case
    given = []

    def seen(clips):
        given.append(torch.is_autocast_enabled("cpu"))
        return model(clips)

    converge(seen, clip, "lime", precision="bf16", start=4, most=4, n_segments=9, alpha=1e-6)
    assert given and all(given)


def test_a_limit_that_is_reached_first_leaves_the_last_row_unconverged(case):
    found = converge(*case, "kernel_shap", start=4, most=7, n_segments=9, baseline="black")
    assert found["n_samples"].tolist() == [4] and not found["converged"].any()


def test_constant_maps_do_not_count_as_agreement(case):
    model, clip = case
    with pytest.warns(UserWarning):
        found = converge(model, clip, "lime", start=4, most=8, n_segments=9, alpha=1e3)
    assert found["correlation"].isna().all() and not found["converged"].any()


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("ig", {}, "no setting n_samples"),
        ("gradcam", {}, "unknown method: 'gradcam'"),
        ("lime", {"start": 9, "most": 8}, "start is 9"),
    ],
)
def test_what_cannot_converge_is_refused(case, method, options, words):
    with pytest.raises(InputError, match=words):
        converge(*case, method, **options)
