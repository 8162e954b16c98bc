"""What a run hands to a published folder: seconds of one machine, timings where they were taken."""

import pandas as pd

from vad_helpers.store import gather


def explained(machines):
    lines = [
        {"clip_id": f"c{i}", "sequence": "s", "method": method, "seconds": seconds,
         "baseline_seconds": 0.1, "superpixel_seconds": 0.0, "model_calls": 5, "machine": machine,
         "batch_size": 1}
        for i, (machine, seconds) in enumerate(machines)
        for method in ("ig", "random_weights")
    ]  # fmt: skip
    return pd.DataFrame(lines)


ABOUT = pd.DataFrame({"method": ["ig", "random_weights"], "kind": ["method", "reference"]})


def test_recorded_seconds_are_those_of_the_machine_that_made_most_maps():
    found = gather.recorded_runtime(explained([("a", 1.0), ("b", 9.0), ("a", 3.0)]), ABOUT)
    seconds = found[found["metric"] == "seconds"]
    assert seconds["value"].tolist() == [1.0, 3.0]
    assert set(found["method"]) == {"ig"} and set(found["source"]) == {"recorded"}
    assert set(found["metric"]) == set(gather.TIMES)


def test_without_maps_there_are_no_seconds():
    assert gather.recorded_runtime(explained([("a", 1.0)]).iloc[:0], ABOUT).empty
