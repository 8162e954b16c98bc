import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from vad_helpers import viz


@pytest.fixture
def axes():
    fig, axes = plt.subplots(1, 3)
    yield axes
    plt.close(fig)


def test_quality_and_cost_joins_the_papers_point_to_the_runs(axes):
    points = pd.DataFrame(
        {
            "label": ["IG", "LIME"],
            "family": ["gradient", "perturbation"],
            "seconds": [4.0, 2.0],
            "quality": [0.7, 0.6],
            "paper_seconds": [10.7, 3.2],
            "paper_quality": [0.68, 0.73],
        },
        index=["ig", "lime"],
    )
    ax = viz.quality_and_cost(axes[0], points)
    joined = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert [list(line.get_xdata()) for line in joined] == [[10.7, 4.0], [3.2, 2.0]]
    assert [list(line.get_ydata()) for line in joined] == [[0.68, 0.7], [0.73, 0.6]]
    assert ax.get_xscale() == "log" and "lower is better" in ax.get_xlabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["IG", "LIME"]


def test_growth_lines_show_a_power_law_as_the_line_it_is(axes):
    sizes = np.array([1.0, 2.0, 4.0])
    growth = pd.concat(
        pd.DataFrame(
            {
                "axis": axis,
                "method": "ig",
                "size": sizes,
                "seconds": 3 * sizes**power,
                "exponent": power,
            }
        )
        for axis, power in (("frames", 1.0), ("pixels", 0.5), ("clips", 2.0))
    )
    drawn = viz.growth_lines(axes, growth, labels={"ig": "IG"})
    for ax, power in zip(drawn, (1.0, 0.5, 2.0), strict=True):
        points, fitted = ax.lines
        np.testing.assert_allclose(points.get_ydata(), fitted.get_ydata(), rtol=1e-9)
        assert ax.get_legend().get_texts()[0].get_text() == f"IG: {power:.2f}"
        assert ax.get_xscale() == ax.get_yscale() == "log"
