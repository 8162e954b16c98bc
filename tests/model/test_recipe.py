"""The recipe: parameter groups, schedules, averaging, the draw of an epoch, its ranges."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vad_helpers.errors import InputError
from vad_helpers.model import recipe
from vad_helpers.model.i3d import STAGES
from vad_helpers.model.recipe import TrainingSpec


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("inf")},
        {"weight_decay": -1e-3},
        {"schedule": "cosine"},
        {"lr_step": 0},
        {"lr_gamma": 0.0},
        {"lr_gamma": 1.5},
        {"early_lr": -0.1},
        {"early_lr": 1.1},
        {"early_end": "Mixed_9z"},
        {"average": 1.0},
        {"label_smoothing": 1.0},
        {"epoch_clips": 0},
        {"patience": 0},
    ],
    ids=str,
)
def test_recipes_out_of_range_are_refused(change):
    name, value = next(iter(change.items()))
    with pytest.raises(InputError, match=f"{name} is {value!r}"):
        TrainingSpec(**change)


def test_paper_recipe_is_the_default():
    spec = TrainingSpec()
    assert (spec.epochs, spec.batch_size, spec.lr, spec.weight_decay) == (100, 5, 1e-3, 1e-4)
    assert (spec.schedule, spec.lr_step, spec.lr_gamma) == ("step", 30, 0.1)
    assert (spec.early_lr, spec.average, spec.label_smoothing) == (1, 0, 0)
    assert (spec.epoch_clips, spec.patience) == (None, None)


def n_parameters(tensors):
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize(("factor", "n_groups"), [(1.0, 1), (0.1, 2), (0.0, 1)])
def test_groups_hold_every_parameter_that_learns_once(make_model, factor, n_groups):
    model = make_model()
    spec = TrainingSpec(lr=1e-2, early_lr=factor, early_end="Mixed_3b")
    groups = recipe.parameter_groups(model, spec)
    assert len(groups) == n_groups
    assert groups[0]["lr"] == 1e-2
    early = [p for n in STAGES[: STAGES.index("Mixed_3b")] for p in getattr(model, n).parameters()]
    listed = [p for group in groups for p in group["params"]]
    assert len({id(p) for p in listed}) == len(listed)
    missing = n_parameters(early) if factor == 0 else 0
    assert n_parameters(listed) == n_parameters(model.parameters()) - missing
    if n_groups == 2:
        assert groups[1]["lr"] == pytest.approx(1e-3)
        assert [id(p) for p in groups[1]["params"]] == [id(p) for p in early]


def test_nothing_is_early_before_the_first_stage(make_model):
    spec = TrainingSpec(early_lr=0.1, early_end=STAGES[0])
    assert len(recipe.parameter_groups(make_model(), spec)) == 1
    assert recipe.early_stages(make_model(), spec) == []


def test_onecycle_keeps_the_ratio_of_the_rates(make_model):
    spec = TrainingSpec(epochs=2, lr=1e-2, early_lr=0.1, schedule="onecycle")
    optimizer = torch.optim.Adam(recipe.parameter_groups(make_model(), spec))
    schedule = recipe.make_schedule(optimizer, spec, 5)
    for _ in range(9):
        late, early = schedule.get_last_lr()
        assert early == pytest.approx(late / 10)
        optimizer.step()
        schedule.step()


def test_average_is_exponential_and_starts_as_the_first_step(make_model):
    model = torch.nn.Linear(1, 1, bias=False)
    average = recipe.make_average(model, TrainingSpec(average=0.75))
    for value in (1.0, 2.0, 4.0):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update_parameters(model)
    # 1, then .75 * 1 + .25 * 2 = 1.25, then .75 * 1.25 + .25 * 4
    assert average.module.weight.item() == pytest.approx(1.9375)
    assert recipe.make_average(model, TrainingSpec()) is None


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    n=st.integers(1, 40),
    seed=st.integers(0, 5),
)
def test_draws_are_even_over_groups_and_repeat_only_what_has_run_out(sizes, n, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    spec = TrainingSpec(epoch_clips=n)
    drawn = recipe.draw(np.random.default_rng(seed), len(groups), spec, groups)
    assert len(drawn) == n
    counts = np.bincount(groups[drawn], minlength=len(sizes))
    assert counts.max() - counts.min() <= 1
    for group, size in enumerate(sizes):
        times = np.bincount(drawn[groups[drawn] == group], minlength=len(groups))[groups == group]
        assert times.max() - times.min() <= 1
        assert times.max() <= -(-counts[group] // size)


def test_draw_takes_every_clip_once_unless_told_how_many():
    rng = np.random.default_rng(0)
    assert sorted(recipe.draw(rng, 6, TrainingSpec())) == list(range(6))
    assert sorted(recipe.draw(rng, 6, TrainingSpec(epoch_clips=6))) == list(range(6))
