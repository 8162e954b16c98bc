"""Probabilities in the order of the data set, and scores of them."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from vad_helpers.errors import InputError
from vad_helpers.model.prediction import (
    computes_bf16,
    evaluate,
    labels_of,
    predict,
    resolve_device,
)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
def test_probabilities_are_the_softmax_in_the_order_of_the_set(make_clips, make_model, batch_size):
    clips, model = make_clips(5), make_model().eval()
    p = predict(model, clips, batch_size=batch_size, device="cpu")
    with torch.no_grad():
        logits = torch.stack([model(clip[None])[0] for clip in clips.clips])
    expected = 1 / (1 + np.exp((logits[:, 0] - logits[:, 1]).numpy()))
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, expected, atol=1e-6)


def test_no_clips_give_no_probabilities(make_clips, make_model):
    assert predict(make_model(), make_clips(0), device="cpu").shape == (0,)


def test_bf16_is_close_to_fp32_and_not_equal(make_clips, make_model):
    clips, model = make_clips(3), make_model()
    exact = predict(model, clips, device="cpu")
    rough = predict(model, clips, device="cpu", precision="bf16")
    np.testing.assert_allclose(rough, exact, atol=0.02)
    assert not np.array_equal(rough, exact)


def test_model_and_generators_are_left_as_they_were(make_clips, make_model):
    model = make_model().train()
    model.Mixed_3b.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    predict(model, make_clips(3), device="cpu")
    assert model.training and model.Mixed_3c.training and not model.Mixed_3b.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])


def test_model_is_restored_after_a_failure(make_clips, make_model):
    clips, model = make_clips(3), make_model().train()
    clips.fail_at_read = 2
    with pytest.raises(KeyboardInterrupt):
        predict(model, clips, device="cpu")
    assert model.training


def test_processes_read_the_same_clips(make_clips, make_model):
    clips, model = make_clips(4), make_model()
    alone = predict(model, clips, batch_size=2, device="cpu")
    assert np.array_equal(predict(model, clips, batch_size=2, device="cpu", num_workers=1), alone)


def test_models_without_parameters_predict(make_clips):
    class Brightness(torch.nn.Module):
        def forward(self, x):
            mean = x.mean(dim=(1, 2, 3, 4))
            return torch.stack([-mean, mean], dim=1)

    clips = make_clips(6, gap=0.5)
    assert evaluate(predict(Brightness(), clips, device="cpu"), clips.labels)["auc"][0] == 1.0


@pytest.mark.parametrize("progress", [True, False])
def test_bar_shows_only_when_asked(make_clips, make_model, capsys, progress):
    predict(make_model(), make_clips(2), device="cpu", progress=progress)
    captured = capsys.readouterr()
    assert ("predict" in captured.err) is progress
    assert captured.out == ""


def test_devices_resolve(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda").type == "cuda"
    assert resolve_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(InputError, match="no GPU"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("capability", "native"), [("AVX512", True), ("AVX2", False), ("DEFAULT", False)]
)
def test_a_cpu_computes_bf16_itself_if_it_has_avx512(monkeypatch, capability, native):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert computes_bf16("cpu") == computes_bf16(torch.device("cpu")) == native


def test_a_gpu_that_emulates_bf16_does_not_compute_it(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert not computes_bf16("cuda:0")


@pytest.mark.parametrize(
    "options", [{"device": "tpu"}, {"precision": "fp16"}, {"batch_size": 0}], ids=str
)
def test_parameters_out_of_range_are_refused(make_clips, make_model, options):
    with pytest.raises(InputError, match=next(iter(options))):
        predict(make_model(), make_clips(2), **{"device": "cpu", **options})


def test_labels_come_from_the_attribute_or_from_the_items(make_clips):
    clips = make_clips(3, labels=[1, 0, 1])
    assert labels_of(clips).tolist() == [1, 0, 1]
    assert clips.reads == 0
    items = [(torch.zeros(1), 0), (torch.zeros(1), torch.tensor(1))]
    assert labels_of(items).tolist() == [0, 1]


def test_scores_are_those_of_scikit_learn_for_all_and_each_group():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    p = np.round(np.clip(0.4 + 0.2 * labels + rng.normal(0, 0.2, 60), 0, 1), 1)  # with ties
    groups = rng.choice(["ped2", "ped1"], 60)
    table = evaluate(p, labels, groups)
    assert table["group"].tolist() == ["all", "ped1", "ped2"]
    for row, inside in zip(
        table.itertuples(), [np.ones(60, bool), groups == "ped1", groups == "ped2"], strict=True
    ):
        assert row.n == inside.sum()
        assert row.n_anomalous == labels[inside].sum()
        assert row.auc == pytest.approx(roc_auc_score(labels[inside], p[inside]))
        assert row.accuracy == pytest.approx(np.mean((p[inside] >= 0.5) == (labels[inside] == 1)))


def test_one_half_counts_as_anomalous():
    assert evaluate([0.5, 0.5], [1, 0])["accuracy"][0] == 0.5
    assert evaluate([0.5], [1])["accuracy"][0] == 1.0


def test_one_class_has_no_auc():
    table = evaluate([0.1, 0.9, 0.8], [0, 1, 1], ["a", "b", "b"])
    assert table["auc"][0] == 1.0
    assert table["auc"][1:].isna().all()
    assert table["accuracy"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("p", "labels", "groups", "fragment"),
    [
        ([], [], None, "a clip at least"),
        ([0.1], [0, 1], None, "one value of each"),
        ([0.1], [0], ["a", "b"], "one value of each"),
        ([[0.1]], [[0]], None, "one value of each"),
        ([float("nan")], [0], None, "NaN"),
        ([1.5], [0], None, "probabilities, not logits"),
        ([0.5], [2], None, "expected 0 and 1"),
    ],
)
def test_scores_that_cannot_be_judged_are_refused(p, labels, groups, fragment):
    with pytest.raises(ValueError, match=fragment):
        evaluate(p, labels, groups)
