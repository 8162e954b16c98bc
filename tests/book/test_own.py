"""The chapters on a network, a method and a metric of one's own, which the package knows not."""

import contextlib

import pytest

from vad_helpers import book

NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv3d(3, 6, 5, stride=2, padding=2)
        self.head = torch.nn.Linear(6, 1)

    def forward(self, clips):
        return self.head(torch.relu(self.conv(clips)).amax(dim=(2, 3, 4)))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("as_found")
def test_the_chapters_run_on_what_is_ones_own(tiny_root):
    (tiny_root / "net.py").write_text(NETWORK)
    own = {
        "model": "net.py:Net",
        "methods": ["ig", "guided_backprop", "lime", "examples/own_method.py:SPEC"],
        "metrics": ["examples/own_metric.py:METRIC"],
        "run_dir": "runs/own",
        "lr": 0.01,
        "variants": {"lime_converged": None},
    }
    with contextlib.chdir(tiny_root):
        run = book.execute_all("tiny", own)
    pages = {path.stem[:2]: path.read_text() for path in (run.dir / "notebooks").glob("*.ipynb")}
    assert "left out: guided_backprop, " in pages["03"]
    assert "Distance of centres \\u2193" in pages["04"] or "Distance of centres ↓" in pages["04"]
    assert "Gradient x motion" in pages["04"] and "Gradient x motion" in pages["07"]
    assert "weights in net.py:Net" in pages["02"]
