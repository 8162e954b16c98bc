"""Tests of runs work inside the tiny project, with the network of the measured run."""

import pytest


@pytest.fixture(autouse=True)
def _in_project(in_project):
    """Work inside the tiny project."""


@pytest.fixture
def weights(measured):
    """Path of the measured run's network."""
    return str(measured.path("model.safetensors"))


@pytest.fixture
def options(measured, weights):
    """Parameters of the measured run, with its network, for another folder."""
    own = {name: measured.params.dump()[name] for name in ("methods", "n_clips", "variants")}
    own["variants"] |= {"lime_converged": None}  # the profile's
    return lambda folder: {**own, "trained_weights": weights, "run_dir": str(folder)}
