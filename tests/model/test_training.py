"""Training: the recipe, the history, and that a killed run resumes exactly."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from vad_helpers.errors import InputError
from vad_helpers.model import training, weights
from vad_helpers.model.training import TrainingSpec, _batches, best_epoch, predict, train

SPEC = TrainingSpec(epochs=2, batch_size=3)
COLUMNS = ["epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_auc"]


@pytest.fixture
def fit(make_clips, make_model, tmp_path):
    """Train a fresh narrow network on the CPU; (model, history)."""

    def run(spec=SPEC, *, folder="run", train_set=None, val_set=None, model=None, **options):
        model = make_model() if model is None else model
        options = {"device": "cpu", "progress": False, **options}
        history = train(
            model,
            make_clips(7, seed=1) if train_set is None else train_set,
            make_clips(6, seed=2) if val_set is None else val_set,
            spec,
            checkpoint_dir=tmp_path / folder,
            **options,
        )
        return model, history

    return run


def same_weights(one, other):
    other = other.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.state_dict().items())


def assert_same_run(one, other):
    (model_one, history_one), (model_two, history_two) = one, other
    columns = [*COLUMNS, "best"]
    assert history_one[columns].equals(history_two[columns])
    assert same_weights(model_one, model_two)


def test_bright_clips_are_learnt(fit, make_clips):
    spec = TrainingSpec(epochs=16, batch_size=4, lr=3e-3)
    sets = {"train_set": make_clips(12, seed=1, gap=1.0), "val_set": make_clips(8, seed=2, gap=1.0)}
    model, history = fit(spec, **sets)
    assert history["val_auc"].max() == 1.0
    loss = history["train_loss"]  # one epoch of it jumps, and differs from processor to processor
    assert loss.iloc[-4:].median() < 0.8 * loss.iloc[0]


def test_history_has_a_row_an_epoch_and_one_best(fit):
    _, history = fit()
    assert history.columns.tolist() == [*COLUMNS, "seconds", "best"]
    assert history["epoch"].tolist() == [0, 1]
    assert history["best"].sum() == 1
    assert history.loc[history["best"], "val_auc"].item() == history["val_auc"].max()
    assert (history["seconds"] > 0).all()
    assert history.notna().all().all()


def test_model_ends_with_the_best_weights_on_file(fit, make_clips, tmp_path):
    model, history = fit(metadata={"mean": 0.4, "origin": "fresh"})
    loaded, metadata = weights.load(tmp_path / "run" / "best.safetensors")
    assert same_weights(model, loaded)
    assert metadata["mean"] == 0.4
    assert metadata["origin"] == "fresh"
    assert not model.training
    clips = make_clips(6, seed=2)
    p = predict(model, clips, device="cpu", batch_size=3)
    best = history[history["best"]].iloc[0]
    assert roc_auc_score(clips.labels, p) == best["val_auc"]
    assert np.mean((p >= 0.5) == clips.labels) == best["val_accuracy"]
    losses = -np.log(np.where(clips.labels, p, 1 - p))
    assert losses.mean() == pytest.approx(best["val_loss"], rel=1e-4)


def test_an_epoch_is_what_a_plain_loop_does(fit, make_clips, make_model):
    clips = make_clips(7, seed=1)
    spec = TrainingSpec(epochs=1, batch_size=3, lr=1e-3, weight_decay=0.1)
    trained, history = fit(spec, model=make_model(dropout=0.0), train_set=clips, seed=5)

    model = make_model(dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=0.1)
    order = np.random.default_rng([5, 0]).permutation(7).tolist()
    losses = []
    for batch in (order[:3], order[3:]):  # the clip left over joins the last batch
        # The same memory layout: Adam's first step turns rounding errors into whole steps.
        x = clips.clips[batch].to(memory_format=torch.channels_last_3d)
        loss = F.cross_entropy(model(x), torch.tensor(clips.labels)[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [loss.item()] * len(batch)
    assert history["train_loss"].item() == pytest.approx(np.mean(losses), rel=1e-5)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor, msg=name)


def test_step_schedule_multiplies_the_rate(fit):
    spec = TrainingSpec(epochs=5, batch_size=4, lr=1e-3, lr_step=2, lr_gamma=0.1)
    _, history = fit(spec)
    np.testing.assert_allclose(history["lr"], [1e-3, 1e-3, 1e-4, 1e-4, 1e-5], rtol=1e-9)


def test_onecycle_schedule_warms_up_and_anneals(fit):
    _, history = fit(TrainingSpec(epochs=8, batch_size=4, lr=1e-3, schedule="onecycle"))
    assert history["lr"].iloc[0] < 1e-4
    assert 5e-4 < history["lr"].max() <= 1e-3
    assert history["lr"].iloc[-1] < 2e-4


@settings(deadline=None)
@given(n=st.integers(2, 60), batch_size=st.integers(1, 8))
def test_batches_hold_every_clip_once_and_none_is_alone(n, batch_size):
    order = np.random.default_rng(0).permutation(n)
    batches = _batches(order, batch_size)
    assert np.concatenate(batches).tolist() == order.tolist()
    sizes = [len(batch) for batch in batches]
    assert all(size == batch_size for size in sizes[:-1])
    assert sizes[-1] <= batch_size + 1
    assert batch_size == 1 or min(sizes) > 1


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 1.0), (0.9, 1.0), (0.8, 0.1)], 1),
        ([(0.9, 1.0), (0.9, 0.5), (0.9, 0.7)], 1),
        ([(0.9, 0.5), (0.9, 0.5)], 0),
    ],
)
def test_best_epoch_has_the_highest_auc_then_the_lowest_loss_then_comes_first(scores, best):
    assert best_epoch([{"val_auc": auc, "val_loss": loss} for auc, loss in scores]) == best


def test_same_seed_repeats_and_another_does_not(fit):
    first, again = fit(folder="a", seed=3), fit(folder="b", seed=3)
    assert_same_run(first, again)
    other = fit(folder="c", seed=4)
    assert not same_weights(first[0], other[0])


def test_global_generators_are_left_as_they_were(fit):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    fit()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert before[2] == random.getstate()


def test_global_generators_do_not_matter(fit):
    torch.manual_seed(1)
    first = fit(folder="a")
    torch.manual_seed(2)
    assert_same_run(first, fit(folder="b"))


# -- Resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "read"), [("step", 3), ("step", 2 * 7 + 6), ("onecycle", 7 + 2)]
)
def test_interrupted_run_ends_like_an_uninterrupted_one(fit, make_clips, schedule, read):
    spec = TrainingSpec(epochs=3, batch_size=3, schedule=schedule, lr_step=2)
    expected = fit(spec, folder="whole")
    clips = make_clips(7, seed=1)
    clips.fail_at_read = read
    with pytest.raises(KeyboardInterrupt):
        fit(spec, folder="cut", train_set=clips)
    interrupted_in = clips.epochs[-1]
    clips.epochs.clear()
    assert_same_run(fit(spec, folder="cut", train_set=clips), expected)
    assert clips.epochs == list(range(interrupted_in, 3))


def test_run_interrupted_while_validating_ends_the_same(fit, make_clips):
    expected = fit(folder="whole")
    clips = make_clips(6, seed=2)
    clips.fail_at_read = 6 + 4
    with pytest.raises(KeyboardInterrupt):
        fit(folder="cut", val_set=clips)
    assert_same_run(fit(folder="cut", val_set=clips), expected)


CHILD = """
import sys, time, torch
from torch.utils.data import Dataset
from vad_helpers.model.i3d import InceptionI3d
from vad_helpers.model.training import TrainingSpec, train

class Slow(Dataset):
    labels = [0, 1, 0, 1, 1]
    def __len__(self):
        return 5
    def __getitem__(self, i):
        time.sleep(float(sys.argv[2]))
        generator = torch.Generator().manual_seed(i)
        return torch.rand(3, 8, 32, 32, generator=generator) + 0.3 * self.labels[i], self.labels[i]

torch.set_num_threads(1)
torch.manual_seed(0)
history = train(InceptionI3d(width=0.1), Slow(), Slow(), TrainingSpec(epochs=4, batch_size=2),
                checkpoint_dir=sys.argv[1], device="cpu", progress=False)
print(history.drop(columns="seconds").to_json())
"""


@pytest.mark.slow
def test_killed_process_resumes_to_the_same_history_and_weights(tmp_path):
    def start(folder, delay):
        command = [sys.executable, "-c", CHILD, str(tmp_path / folder), str(delay)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def finish(process):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        return json.loads(output)

    last = tmp_path / "cut" / "last.pt"
    with start("whole", 0) as whole, start("cut", 0.05) as cut:
        deadline = time.monotonic() + 300
        while not last.is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
        cut.kill()
        expected = finish(whole)
    assert cut.returncode == -signal.SIGKILL
    assert 1 <= len(torch.load(last, weights_only=True)["rows"]) < 4
    assert finish(start("cut", 0)) == expected
    models = [weights.load(tmp_path / f / "best.safetensors")[0] for f in ("whole", "cut")]
    assert same_weights(*models)


def test_finished_run_returns_at_once(fit, make_clips):
    expected = fit()
    clips = make_clips(7, seed=1)
    clips.fail_at_read = 1
    again = fit(train_set=clips)
    assert_same_run(again, expected)
    assert again[1].equals(expected[1])  # even the seconds
    assert clips.epochs == []


@pytest.mark.parametrize(
    "change",
    [
        {"key": "other data"},
        {"seed": 1},
        {"precision": "bf16"},
        {"spec": TrainingSpec(epochs=2, batch_size=3, lr=2e-3)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_state_of_another_run_is_never_read(fit, make_clips, change):
    fit(key="data")
    clips = make_clips(7, seed=1)
    changed = fit(**{"key": "data", **change}, train_set=clips)
    assert clips.epochs == [0, 1]
    assert_same_run(changed, fit(**{"key": "data", **change}, folder="fresh"))


def test_state_of_another_width_is_never_read(fit, make_clips, make_model):
    fit()
    clips = make_clips(7, seed=1)
    fit(model=make_model(width=0.15), train_set=clips)
    assert clips.epochs == [0, 1]


def test_best_weights_of_another_run_do_not_outlive_its_state(fit, make_clips, tmp_path):
    fit(key="old")
    clips = make_clips(7, seed=1)
    clips.fail_at_read = 1
    with pytest.raises(KeyboardInterrupt):
        fit(key="new", train_set=clips)
    assert list((tmp_path / "run").iterdir()) == []


def test_damaged_state_is_replaced_with_a_warning(fit, tmp_path):
    expected = fit()
    last = tmp_path / "run" / "last.pt"
    for content in (last.read_bytes()[:-100], b""):
        last.write_bytes(content)
        with pytest.warns(UserWarning, match="last.pt is damaged"):
            assert_same_run(fit(), expected)


def test_state_that_is_no_dict_is_replaced(fit, tmp_path):
    expected = fit()
    torch.save([1, 2], tmp_path / "run" / "last.pt")
    assert_same_run(fit(), expected)


def test_run_killed_between_its_two_files_restores_the_best_weights(fit, tmp_path):
    model, _ = fit()
    (tmp_path / "run" / "best.safetensors").unlink()
    fit()
    assert same_weights(weights.load(tmp_path / "run" / "best.safetensors")[0], model)


def test_a_full_disk_is_an_os_error_and_leaves_no_half_of_a_state(fit, tmp_path, full_disk):
    with full_disk(100_000), pytest.raises(OSError, match="File too large"):
        fit()
    assert list((tmp_path / "run").iterdir()) == []


def test_no_partial_files_are_left(fit, tmp_path):
    fit()
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"last.pt", "best.safetensors"}


# -- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "name"), [("train_set", "training"), ("val_set", "validation")])
@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1], [0, 1, 2], []])
def test_labels_that_cannot_be_learnt_stop_before_training(fit, make_clips, part, name, labels):
    clips = make_clips(len(labels), labels=labels) if labels else make_clips(0)
    with pytest.raises(InputError, match=f"the {name} set of {len(labels)} clips"):
        fit(**{part: clips})
    assert clips.reads == 0


def test_bad_input_leaves_an_older_run_alone(fit, make_clips, tmp_path):
    fit()
    with pytest.raises(InputError):
        fit(val_set=make_clips(2, labels=[0, 0]))
    assert (tmp_path / "run" / "last.pt").is_file()


def test_models_of_other_classes_are_refused(fit, make_model):
    with pytest.raises(InputError, match="3 classes"):
        fit(model=make_model(num_classes=3))


@pytest.mark.parametrize(("part", "name"), [("train_set", "training"), ("val_set", "validation")])
def test_loss_that_is_not_finite_stops_with_epoch_and_rate(fit, make_clips, part, name):
    clips = make_clips(6)
    clips.clips[2] = float("nan")
    with pytest.raises(InputError, match=f"the {name} loss is nan in epoch 0 .*0.001: lower lr"):
        fit(**{part: clips})


@pytest.mark.parametrize("change", [{"seed": -1}, {"device": "tpu"}, {"precision": "fp8"}], ids=str)
def test_parameters_out_of_range_are_refused(fit, change):
    with pytest.raises(InputError, match=next(iter(change))):
        fit(**change)


# -- Recipe ---------------------------------------------------------------------------------------


FULL = {"average": 0.5, "early_lr": 0.1, "epoch_clips": 5, "label_smoothing": 0.1}


def test_frozen_stages_stay_as_they_were_and_the_rest_learns(fit, make_model):
    before = make_model().state_dict()
    model, _ = fit(TrainingSpec(epochs=1, batch_size=3, early_lr=0.0, early_end="Mixed_3b"))
    same = {n: torch.equal(t, before[n]) for n, t in model.state_dict().items()}
    early = ("Conv3d_1a", "Conv3d_2b", "Conv3d_2c")  # batch norm statistics included
    assert all(equal for name, equal in same.items() if name.startswith(early))
    assert not same["Mixed_3b.b0.conv3d.weight"]
    assert not same["logits.conv3d.weight"]
    assert all(p.requires_grad for p in model.parameters())


def test_averaged_weights_are_validated_and_kept(fit, make_clips, tmp_path):
    clips = make_clips(6, seed=2)
    spec = TrainingSpec(epochs=1, batch_size=3, lr=1e-2, average=0.9)
    model, history = fit(spec, val_set=clips)
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    last = state["model"]["logits.conv3d.weight"]
    assert not torch.equal(model.logits.conv3d.weight, last)
    p = predict(model, clips, device="cpu", batch_size=3)
    assert roc_auc_score(clips.labels, p) == history["val_auc"].item()


def test_an_epoch_reads_as_many_clips_as_the_recipe_says_evenly_by_group(fit, make_clips):
    clips = make_clips(12, seed=1)
    clips.groups = ["a"] * 10 + ["b"] * 2
    drawn = []
    plain = type(clips).__getitem__
    clips.__class__ = type(
        "Spy",
        (type(clips),),
        {"__getitem__": lambda self, i: drawn.append(int(i)) or plain(self, i)},
    )
    fit(TrainingSpec(epochs=1, batch_size=3, epoch_clips=6), train_set=clips)
    assert len(drawn) == 6
    assert sum(i >= 10 for i in drawn) == 3


def test_training_stops_when_no_epoch_was_better_for_a_while(fit, monkeypatch):
    aucs = iter([0.6, 0.7, 0.7, 0.5, 0.9, 0.9])
    monkeypatch.setattr(training, "auc", lambda *_: next(aucs))
    losses = iter([1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    plain = training._Trainer._validate
    monkeypatch.setattr(
        training._Trainer,
        "_validate",
        lambda self, *given: plain(self, *given) | {"val_loss": next(losses)},
    )
    spec = TrainingSpec(epochs=6, batch_size=3, patience=2)
    _, history = fit(spec)
    assert history["val_auc"].tolist() == [0.6, 0.7, 0.7, 0.5]
    assert history["best"].tolist() == [False, True, False, False]
    _, again = fit(spec)  # and a finished run is not taken up again
    assert again.equals(history)


def test_interrupted_run_of_the_whole_recipe_ends_like_an_uninterrupted_one(fit, make_clips):
    spec = TrainingSpec(epochs=3, batch_size=3, **FULL)
    expected = fit(spec, folder="whole")
    clips = make_clips(7, seed=1)
    clips.fail_at_read = 5 + 3
    with pytest.raises(KeyboardInterrupt):
        fit(spec, folder="cut", train_set=clips)
    assert_same_run(fit(spec, folder="cut", train_set=clips), expected)


# -- Devices, data sets, bars ---------------------------------------------------------------------


def test_bf16_trains_and_keeps_float32_weights(fit, capfd):
    model, history = fit(precision="bf16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert np.isfinite(history["train_loss"]).all()
    exact, _ = fit(folder="exact")
    assert not same_weights(model, exact)
    assert capfd.readouterr() == ("", "")  # output would end up in the notebook's page


def test_set_without_epochs_or_labels_trains(fit):
    generator = torch.Generator().manual_seed(0)
    items = [(torch.rand(3, 8, 32, 32, generator=generator), i % 2) for i in range(5)]
    _, history = fit(TrainingSpec(epochs=1, batch_size=2), train_set=items, val_set=items)
    assert len(history) == 1


def test_epochs_are_announced_to_the_training_set(fit, make_clips):
    clips, val = make_clips(7), make_clips(6)
    fit(train_set=clips, val_set=val)
    assert clips.epochs == [0, 1]
    assert val.epochs == []


def test_processes_that_read_change_nothing(fit):
    spec = TrainingSpec(epochs=2, batch_size=4)
    assert_same_run(fit(spec, folder="a"), fit(spec, folder="b", num_workers=1))


@pytest.mark.parametrize("progress", [True, False])
def test_bar_counts_all_batches_and_shows_only_when_asked(fit, capsys, progress):
    fit(TrainingSpec(epochs=2, batch_size=3), progress=progress)
    captured = capsys.readouterr()
    assert ("8/8" in captured.err) is progress  # 2 epochs of 2 + 2 batches
    assert captured.out == ""


def test_checkpoint_folder_may_be_a_string_and_is_made(make_clips, make_model, tmp_path):
    folder = str(tmp_path / "a" / "b")
    clips = make_clips(4)
    spec = TrainingSpec(epochs=1)
    train(make_model(), clips, clips, spec, checkpoint_dir=folder, device="cpu", progress=False)
    assert Path(folder, "last.pt").is_file()


def test_training_without_a_recipe_uses_the_default(make_clips, make_model, tmp_path):
    clips = make_clips(4)
    clips.fail_at_read = 1
    with pytest.raises(KeyboardInterrupt):
        train(make_model(), clips, clips, checkpoint_dir=tmp_path, device="cpu", progress=False)
    assert clips.epochs == [0]
