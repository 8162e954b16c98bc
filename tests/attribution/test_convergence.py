import numpy as np
import pytest
import torch

from vad_helpers.attribution import explain
from vad_helpers.attribution.convergence import converge
from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import prepare


@pytest.fixture
def case(planted):
    region = np.zeros((4, 24, 24), dtype=bool)
    region[:, 4:16, 4:16] = True
    return planted(region), torch.rand(3, 4, 24, 24)


class Counting(torch.nn.Module):
    """A model that notes how many clips it is asked for, and whether in bf16."""

    def __init__(self, model):
        super().__init__()
        self.model, self.asked, self.half = model, 0, set()

    def forward(self, clips):
        self.asked += len(clips)
        self.half.add(torch.is_autocast_enabled("cpu"))
        return self.model(clips)


def test_samples_double_until_two_seeds_agree(case):
    found = converge(*case, "kernel_shap", start=4, most=512, n_segments=9, baseline="black")
    assert found["n_samples"].tolist() == [4 * 2**k for k in range(len(found))]
    assert found["converged"].tolist() == [False] * (len(found) - 1) + [True]
    assert found["correlation"].iloc[-1] >= 0.95 > found["correlation"].iloc[0]


@pytest.mark.parametrize("method", ["lime", "kernel_shap"])
@pytest.mark.parametrize("options", [{}, {"paired": True, "batch_size": 3}])
def test_samples_of_smaller_numbers_are_not_asked_again_and_maps_are_those_of_explain(
    case, method, options
):
    model, clip = case
    counting, settings = Counting(model), {"n_segments": 60, "baseline": "black", **options}
    found = converge(counting, clip, method, start=8, most=64, threshold=1.0, **settings)
    assert found["n_samples"].tolist() == [8, 16, 32, 64] and counting.half == {False}
    # Captum asks for the clip itself too, before it draws; three find out whether batches mix.
    assert counting.asked <= 2 * (64 + 2) + 3
    for n_samples, correlation in found[["n_samples", "correlation"]].itertuples(index=False):
        maps = [
            explain(model, clip, method, n_samples=n_samples, seed=seed, **settings).ravel()
            for seed in (0, 1)
        ]
        assert correlation == pytest.approx(np.corrcoef(*maps)[0, 1], abs=1e-6)


def test_a_prepared_models_batch_size_is_measured_and_not_answered_from_memory(case):
    model, clip = case
    counting = Counting(model).train()
    ready = prepare(counting, precision="bf16")
    options = {"start": 21, "most": 42, "threshold": 1.0, "n_segments": 60, "alpha": 1e-6}
    converge(ready, clip, "lime", precision="bf16", **options)
    once = counting.asked
    assert once > 2 * (42 + 2) + 3 and counting.training and counting.half == {True}
    converge(ready, clip, "lime", precision="bf16", **options)
    assert counting.asked - once <= 2 * (42 + 2)


def test_methods_with_gradients_double_their_samples_too(tiny_net, make_clip):
    # On the planted model two seeds agree to the last digit, and may stop the doubling at once.
    case = tiny_net, make_clip()
    found = converge(*case, "gradient_shap", start=2, most=4, threshold=1.0, baseline="black")
    assert found["n_samples"].tolist() == [2, 4] and (found["correlation"].abs() <= 1).all()


def test_constant_maps_do_not_count_as_agreement(case):
    with pytest.warns(UserWarning, match="all-zero"):
        found = converge(*case, "lime", start=4, most=8, n_segments=9, alpha=1e3)
    assert found["correlation"].isna().all() and not found["converged"].any()


@pytest.mark.parametrize(
    ("method", "options"), [("ig", {}), ("gradcam", {}), ("lime", {"start": 9, "most": 8})]
)
def test_what_cannot_converge_is_refused(case, method, options):
    with pytest.raises(InputError):
        converge(*case, method, **options)
