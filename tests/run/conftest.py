"""Tests of runs work inside the tiny project, with the network of the measured run."""

import pytest


@pytest.fixture(autouse=True)
def _in_project(in_project):
    """Work inside the tiny project."""


@pytest.fixture
def weights(measured):
    """Path of the measured run's network."""
    return str(measured.path("model.safetensors"))
