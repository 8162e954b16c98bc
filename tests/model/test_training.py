"""Training: the recipe, the history, that a killed run resumes exactly; predictions."""

import random
import resource
import signal
import socket
from multiprocessing import get_context

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from vad_helpers.errors import InputError
from vad_helpers.model.training import TrainingSpec, draw, in_batches, kept_epoch, predict, train
from vad_helpers.model.weights import fingerprint, load

SPEC = TrainingSpec(epochs=2, batch_size=3)
FULL = {"average": 0.5, "early_lr": 0.1, "epoch_clips": 5, "label_smoothing": 0.1}
COLUMNS = "epoch lr train_loss train_accuracy val_loss val_accuracy val_auc seconds best".split()


@pytest.fixture
def fit(make_clips, make_model, tmp_path):
    """Train a fresh narrow network on the CPU; (model, history)."""

    def run(spec=SPEC, *, folder="run", train_set=None, val_set=None, model=None, **options):
        model = make_model() if model is None else model
        train_set = make_clips(7, seed=1) if train_set is None else train_set
        val_set = make_clips(6, seed=2) if val_set is None else val_set
        options = {"device": "cpu", "progress": False, **options}
        folder = str(tmp_path / folder)
        return model, train(model, train_set, val_set, spec, checkpoint_dir=folder, **options)

    return run


def assert_same_run(one, other):
    (model_one, history_one), (model_two, history_two) = one, other
    assert history_one.drop(columns="seconds").equals(history_two.drop(columns="seconds"))
    assert fingerprint(model_one) == fingerprint(model_two)


WRONG = "epochs=0 batch_size=0 lr=0 lr=inf weight_decay=-1 lr_step=0 lr_gamma=1.5 early_lr=1.1"
WRONG += " average=1 label_smoothing=1 epoch_clips=0 patience=0 schedule=cosine early_end=Mixed_9z"


@pytest.mark.parametrize("wrong", WRONG.split())
def test_recipes_out_of_range_are_refused(wrong):
    name, value = wrong.split("=")
    value = value if name in ("schedule", "early_end") else float(value)
    with pytest.raises(InputError, match=f"{name} is {value!r}"):
        TrainingSpec(**{name: value})


def test_paper_recipe_is_the_default():
    paper = {"epochs": 100, "batch_size": 5, "lr": 1e-3, "weight_decay": 1e-4, "lr_step": 30}
    paper |= {"lr_gamma": 0.1, "early_lr": 1, "average": 0, "epoch_clips": None, "patience": None}
    assert TrainingSpec() == TrainingSpec(**paper, schedule="step", label_smoothing=0)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    n=st.integers(1, 40),
    seed=st.integers(0, 5),
)
def test_draws_are_even_over_groups_and_repeat_only_what_has_run_out(sizes, n, seed):
    groups, rng = np.repeat(np.arange(len(sizes)), sizes), np.random.default_rng(seed)
    assert sorted(draw(rng, len(groups), TrainingSpec(), groups)) == list(range(len(groups)))
    drawn = draw(rng, len(groups), TrainingSpec(epoch_clips=n), groups)
    counts = np.bincount(groups[drawn], minlength=len(sizes))
    assert counts.sum() == n and np.ptp(counts) <= 1
    times = np.bincount(drawn, minlength=len(groups))
    assert all(np.ptp(times[groups == group]) <= 1 for group in range(len(sizes)))


@settings(deadline=None)
@given(n=st.integers(2, 60), batch_size=st.integers(1, 8))
def test_batches_hold_every_clip_once_and_none_is_alone(n, batch_size):
    order = np.random.default_rng(0).permutation(n)
    batches = in_batches(order, batch_size)
    assert np.concatenate(batches).tolist() == order.tolist()
    *full, last = [len(batch) for batch in batches]
    assert set(full) <= {batch_size}
    assert min(batch_size, 2) <= last <= batch_size + 1


EARLY = {"early_end": "Mixed_3b"}
RECIPES = {}, {"average": 0.75, "label_smoothing": 0.2}, {"early_lr": 0.1}, {"early_lr": 0.0}


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_an_epoch_is_what_a_plain_loop_does(fit, make_clips, make_model, recipe):
    clips = make_clips(7, seed=1)
    spec = TrainingSpec(epochs=1, batch_size=3, lr=1e-3, weight_decay=0.1, **EARLY, **recipe)
    trained, history = fit(spec, model=make_model(dropout=0.0), train_set=clips, seed=5)

    model = make_model(dropout=0.0).train()
    early = [stage for name, stage in model.named_children() if name[7:9] in ("1a", "2b", "2c")]
    assert len(early) == 3
    slow = [p for stage in early for p in stage.parameters()]
    fast = [p for p in model.parameters() if not any(p is other for other in slow)]
    factor = recipe.get("early_lr", 1.0)
    groups = [{"params": fast}, {"params": slow, "lr": 1e-3 * factor}][: 2 if factor else 1]
    optimizer = torch.optim.Adam(groups, lr=1e-3, weight_decay=0.1)
    order = np.random.default_rng([5, 0]).permutation(7).tolist()
    losses, average = [], None
    for stage in early if factor == 0 else []:
        stage.eval()
    for batch in (order[:3], order[3:]):  # the clip left over joins the last batch
        # The same memory layout: Adam's first step turns rounding errors into whole steps.
        x = clips.clips[batch].to(memory_format=torch.channels_last_3d)
        labels = torch.tensor(clips.labels)[batch]
        loss = F.cross_entropy(model(x), labels, label_smoothing=spec.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [loss.item()] * len(batch)
        new = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        # It starts as the first step, and is exponential from there on.
        share = spec.average if average else 0.0
        average = {k: share * (average or new)[k] + (1 - share) * new[k] for k in new}
    assert history["train_loss"].item() == pytest.approx(np.mean(losses), rel=1e-5)
    for name, tensor in trained.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, average[name], msg=name)
    assert all(p.requires_grad for p in trained.parameters())


@pytest.mark.parametrize("recipe", [{}, FULL], ids=["plain", "full"])
def test_model_ends_with_the_best_weights_on_file(fit, make_clips, tmp_path, recipe):
    clips, val = make_clips(7, seed=1), make_clips(6, seed=2)
    spec = TrainingSpec(epochs=2, batch_size=3, **recipe)
    metadata = {"mean": 0.4, "origin": "fresh"}
    model, history = fit(spec, train_set=clips, val_set=val, metadata=metadata)
    assert history.columns.tolist() == COLUMNS
    assert history["epoch"].tolist() == clips.epochs == [0, 1] and val.epochs == []
    assert (history["seconds"] > 0).all() and history.notna().all().all()
    loaded, found = load(tmp_path / "run" / "best.safetensors")
    assert fingerprint(model) == fingerprint(loaded) and not model.training
    assert (found["mean"], found["origin"]) == (0.4, "fresh")
    best = history[history["best"]].iloc[0]
    p = predict(model, val, device="cpu", batch_size=3)
    assert roc_auc_score(val.labels, p) == best["val_auc"] == history["val_auc"].max()
    assert np.mean((p >= 0.5) == val.labels) == best["val_accuracy"]
    losses = -np.log(np.where(val.labels, p, 1 - p))
    assert losses.mean() == pytest.approx(best["val_loss"], rel=1e-4)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"last.pt", "best.safetensors"}


def test_schedules(fit, make_clips):
    few = {"train_set": make_clips(4), "val_set": make_clips(2)}
    _, history = fit(TrainingSpec(epochs=5, batch_size=2, lr_step=2, lr_gamma=0.1), **few)
    np.testing.assert_allclose(history["lr"], [1e-3, 1e-3, 1e-4, 1e-4, 1e-5], rtol=1e-9)
    _, history = fit(TrainingSpec(epochs=8, batch_size=2, schedule="onecycle"), **few)
    assert history["lr"].iloc[0] < 1e-4 and history["lr"].iloc[-1] < 2e-4
    assert 5e-4 < history["lr"].max() <= 1e-3


@pytest.mark.parametrize(
    ("aucs", "losses", "best"),
    [([0.5, 0.9, 0.8], [1, 1, 0], 1), ([0.9] * 3, [1.0, 0.5, 0.7], 1), ([0.9] * 2, [0.5] * 2, 0)],
)
def test_kept_epoch_has_the_highest_auc_then_the_lowest_loss_then_comes_first(aucs, losses, best):
    rows = [{"val_auc": a, "val_loss": b} for a, b in zip(aucs, losses, strict=True)]
    assert kept_epoch(rows) == best


def test_without_validation_the_last_epoch_is_kept(fit, make_clips, make_model, tmp_path):
    spec = TrainingSpec(epochs=2, batch_size=3, keep="last")
    options = {"checkpoint_dir": str(tmp_path), "device": "cpu", "progress": False}
    model = make_model()
    history = train(model, make_clips(7, seed=1), None, spec, **options)
    assert history["best"].tolist() == [False, True] and history["val_auc"].isna().all()
    validated, other = fit(spec)  # whether it is validated changes no weight
    assert fingerprint(model) == fingerprint(validated)
    assert other["best"].tolist() == [False, True]
    with pytest.raises(InputError, match="keep='last'"):
        train(make_model(), make_clips(7, seed=1), None, SPEC, **options)


def test_training_stops_when_no_epoch_was_better_for_a_while(fit):
    spec = TrainingSpec(epochs=20, batch_size=3, patience=2, lr=1e-5)
    _, history = fit(spec)
    assert len(history) == history["best"].idxmax() + 3 < 20
    assert fit(spec)[1].equals(history)  # and a finished run is not taken up again


def test_the_seed_alone_decides_and_global_generators_are_left_as_they_were(fit):
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = fit(folder="a", seed=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist() and before[2] == random.getstate()
    torch.manual_seed(2)
    assert_same_run(first, fit(folder="b", seed=3))
    assert fingerprint(first[0]) != fingerprint(fit(folder="c", seed=4)[0])


def test_bf16_trains_plain_sets_and_keeps_float32_weights(fit, capfd):
    items = [(torch.rand(3, 8, 32, 32), i % 2) for i in range(5)]
    options = {"spec": TrainingSpec(epochs=2, batch_size=2), "train_set": items, "val_set": items}
    model, history = fit(precision="bf16", **options)
    assert capfd.readouterr() == ("", "")  # output would end up in the notebook's page
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert np.isfinite(history["train_loss"]).all()
    assert fingerprint(model) != fingerprint(fit(folder="exact", progress=True, **options)[0])
    assert "10/10" in capfd.readouterr().err  # 2 epochs of 2 + 3 batches


@pytest.mark.parametrize(
    ("recipe", "part", "read"),
    [
        ({"lr_step": 2}, "train_set", 3),
        ({"lr_step": 2}, "train_set", 2 * 7 + 6),
        ({"schedule": "onecycle"}, "train_set", 7 + 2),
        ({"schedule": "onecycle"}, "val_set", 6 + 4),
        (FULL, "train_set", 5 + 3),
    ],
)
def test_interrupted_run_ends_like_an_uninterrupted_one(fit, make_clips, recipe, part, read):
    spec = TrainingSpec(epochs=3, batch_size=3, **recipe)
    expected = fit(spec, folder="whole")
    sets = {"train_set": make_clips(7, seed=1), "val_set": make_clips(6, seed=2)}
    sets[part].fail_at_read = read
    with pytest.raises(KeyboardInterrupt):
        fit(spec, folder="cut", **sets)
    interrupted_in, again = sets["train_set"].epochs[-1], make_clips(7, seed=1)
    assert_same_run(fit(spec, folder="cut", train_set=again), expected)
    assert again.epochs == list(range(interrupted_in, 3))
    ended = make_clips(7, seed=1)
    assert_same_run(fit(spec, folder="cut", train_set=ended), expected)
    assert ended.reads == 0  # it returns at once


def train_on_one_thread(*arguments, **options):
    torch.set_num_threads(1)
    train(*arguments, **options)


def test_killed_process_resumes_to_the_same_history_and_weights(
    fit, make_clips, make_model, tmp_path
):
    dying, spec = make_clips(7, seed=1), TrainingSpec(epochs=3, batch_size=3)
    dying.fail_at_read, dying.killed = 7 + 2, True
    child = get_context("spawn").Process(
        target=train_on_one_thread,
        args=(make_model(), dying, make_clips(6, seed=2), spec),
        kwargs={"checkpoint_dir": str(tmp_path / "cut"), "device": "cpu", "progress": False},
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(torch.load(tmp_path / "cut" / "last.pt", weights_only=True)["rows"]) == 1
    assert_same_run(fit(spec, folder="cut"), fit(spec, folder="whole"))


OTHERS = {"key": "other", "seed": 1, "precision": "bf16", "width": 0.15}


@pytest.mark.parametrize("name", [*OTHERS, "spec"])
def test_state_of_another_run_is_replaced(fit, make_clips, make_model, tmp_path, name):
    fit(key="data")
    options = {"key": "data", name: OTHERS.get(name, TrainingSpec(epochs=1, batch_size=3))}
    width, clips = options.pop("width", 0.1), make_clips(7, seed=1)
    clips.fail_at_read = 1
    with pytest.raises(KeyboardInterrupt):
        fit(**options, model=make_model(width=width), train_set=clips)
    assert list((tmp_path / "run").iterdir()) == []  # its best weights do not outlive it
    changed = fit(**options, model=make_model(width=width))
    assert_same_run(changed, fit(**options, model=make_model(width=width), folder="fresh"))


def test_damaged_states_are_replaced_with_a_warning(fit, tmp_path):
    expected = fit()
    last, best = (tmp_path / "run" / name for name in ("last.pt", "best.safetensors"))
    for content in (last.read_bytes()[:-100], b""):
        last.write_bytes(content)
        with pytest.warns(UserWarning, match="last.pt is damaged"):
            assert_same_run(fit(), expected)
    best.unlink()  # killed between its two files
    fit()
    assert fingerprint(load(best)[0]) == fingerprint(expected[0])


def test_a_full_disk_is_an_os_error_and_leaves_no_half_of_a_state(fit, tmp_path):
    # The operating system refuses the write as a full disk would, whatever library asks for it.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("part", ["train_set", "val_set"])
@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1], [0, 1, 2], [0, 0.5, 1]])
def test_labels_that_cannot_be_learnt_stop_before_anything(fit, make_clips, tmp_path, part, labels):
    fit()
    clips = make_clips(len(labels), labels=labels)
    with pytest.raises(InputError, match=f"set of {len(labels)} clips"):
        fit(**{part: clips}, key="other")
    assert clips.reads == 0
    assert (tmp_path / "run" / "last.pt").is_file()


@pytest.mark.parametrize(("part", "name"), [("train_set", "training"), ("val_set", "validation")])
def test_loss_that_is_not_finite_stops_with_epoch_and_rate(fit, make_clips, part, name):
    clips = make_clips(6)
    clips.clips[2] = float("nan")
    with pytest.raises(InputError, match=f"the {name} loss is nan in epoch 0 .*0.001"):
        fit(**{part: clips})


def test_probabilities_are_the_softmax_in_the_order_of_the_set(make_clips, make_model):
    clips, model = make_clips(5), make_model().eval()
    with torch.no_grad():
        logits = torch.stack([model(clip[None])[0] for clip in clips.clips])
    expected = 1 / (1 + np.exp((logits[:, 0] - logits[:, 1]).numpy()))
    for batch_size in (1, 2, 9):
        exact = predict(model, clips, batch_size=batch_size, device="cpu")
        assert exact.dtype == np.float32
        np.testing.assert_allclose(exact, expected, atol=1e-6)
    assert predict(model, make_clips(0), device="cpu").shape == (0,)
    rough = predict(model, clips, device="cpu", precision="bf16")
    assert 0 < np.abs(rough - exact).max() < 0.02
    for options in ({"device": "tpu"}, {"precision": "fp16"}, {"batch_size": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            predict(model, clips, **{"device": "cpu", **options})


def test_predicting_leaves_the_model_as_it_was_even_after_a_failure(make_clips, make_model):
    model, clips = make_model().train(), make_clips(3)
    model.Mixed_3b.eval()
    before = fingerprint(model)
    predict(model, clips, device="cpu")
    clips.fail_at_read = 5
    with pytest.raises(KeyboardInterrupt):
        predict(model, clips, device="cpu")
    assert model.training and model.Mixed_3c.training and not model.Mixed_3b.training
    assert fingerprint(model) == before


def plain():
    """A network without batch norm: how a batch is shared out changes nothing but rounding."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv3d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1)]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4, 2))


def assert_alike(one, other):
    (model_one, history_one), (model_two, history_two) = one, other
    for name, tensor in model_one.state_dict().items():
        torch.testing.assert_close(tensor, model_two.state_dict()[name], rtol=1e-4, atol=1e-6)
    numbers = history_one.columns.drop(["seconds", "best"])
    np.testing.assert_allclose(history_one[numbers], history_two[numbers], rtol=1e-4)


@pytest.mark.slow
def test_processes_share_batches_out_and_train_the_same_network(fit):
    spec = TrainingSpec(epochs=3, batch_size=3, lr=0.01, average=0.5)
    shared = fit(spec, folder="two", model=plain(), devices=2)
    assert_alike(fit(spec, folder="one", model=plain()), shared)
    assert fingerprint(fit(spec, folder="two", model=plain())[0]) == fingerprint(shared[0])
    with pytest.raises(InputError, match="give at least one of each"):
        fit(spec, folder="none", model=plain(), devices=0)


@pytest.mark.slow
def test_machines_train_one_network_together(fit, make_clips, tmp_path, monkeypatch):
    given = make_clips(7, seed=1), make_clips(6, seed=2), TrainingSpec(epochs=2, batch_size=3)
    options = {"checkpoint_dir": str(tmp_path / "nodes"), "device": "cpu", "num_nodes": 2}
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    machines = []
    for rank in ("1", "0"):
        monkeypatch.setenv("NODE_RANK", rank)
        machine = get_context("spawn").Process(target=train, args=(plain(), *given), kwargs=options)
        machine.start()
        machines.append(machine)
    assert [machine.join(300) or machine.exitcode for machine in machines] == [0, 0]
    assert_alike(*(fit(given[2], folder=name, model=plain()) for name in ("one", "nodes")))
