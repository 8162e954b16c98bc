import numpy as np
import pytest
import torch

from vad_helpers.attribution.convergence import converge
from vad_helpers.errors import InputError


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
    [("ig", {}, "no setting n_samples"), ("lime", {"start": 9, "most": 8}, "start is 9")],
)
def test_what_cannot_converge_is_refused(case, method, options, words):
    with pytest.raises(InputError, match=words):
        converge(*case, method, **options)
