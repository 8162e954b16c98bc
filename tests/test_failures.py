"""The clips that the picture of failures shows."""

import pandas as pd

from benchmarks import failures


def test_the_worst_clip_of_the_worst_sequences_is_shown():
    lines = [("a-1", "a", 1, 0.1), ("a-2", "a", 1, 0.4), ("b-1", "b", 0, 0.7), ("b-2", "b", 0, 0.2)]
    lines += [("c-1", "c", 1, 0.9), ("c-2", "c", 0, 0.5)]
    tested = pd.DataFrame(lines, columns=["clip_id", "sequence", "label", "p"]).assign(split="test")
    validated = tested.assign(split="val", sequence="d", p=1.0 - tested["label"])
    found = failures.worst(pd.concat([validated, tested]), n=2)
    assert found["clip_id"].tolist() == ["a-1", "b-1"]  # b before c by name: half of each is right
    assert found["accuracy"].tolist() == [0, 0.5]
