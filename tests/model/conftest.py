"""Small data sets and networks on which a training takes a second."""

import signal

import pytest
import torch
from torch.utils.data import Dataset

from vad_helpers.model.i3d import InceptionI3d


class Clips(Dataset):
    """Random clips of 8x32x32; anomalous ones are brighter by `gap`."""

    def __init__(self, n, *, seed=0, gap=0.3, labels=None):
        generator = torch.Generator().manual_seed(seed)
        self.clips = torch.rand(n, 3, 8, 32, 32, generator=generator) - 0.5
        self.labels = [i % 2 for i in range(n)] if labels is None else labels
        self.clips += gap * torch.tensor(self.labels).view(-1, 1, 1, 1, 1)
        self.epochs = []
        self.reads = 0
        self.fail_at_read, self.killed = None, False

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.reads += 1
        if self.reads == self.fail_at_read:
            if self.killed:
                signal.raise_signal(signal.SIGKILL)
            raise KeyboardInterrupt
        return self.clips[index], self.labels[index]


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Work in one thread."""


@pytest.fixture
def make_clips():
    return Clips


@pytest.fixture
def make_model():
    """A narrow network, the same one for the same seed."""

    def make(*, width=0.1, num_classes=2, dropout=0.5, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return InceptionI3d(num_classes, width, dropout=dropout)

    return make
