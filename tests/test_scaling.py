"""The simulation of many workers, where its answer is known."""

import pytest

from benchmarks import scaling

NOTHING = {"start": 0.0, "overhead": 0.0, "write": 0.0, "weights_mb": 0.0}


def test_without_losses_work_is_shared_out_and_the_longest_unit_bounds_it():
    units = [9.0, 3.0, 3.0, 3.0]
    for n, seconds in ((1, 18), (2, 9), (4, 9), (100, 9)):
        hours, efficiency, again = scaling.simulate(units, n, **NOTHING)
        assert (hours * 3600, efficiency, again) == pytest.approx((seconds, 18 / (n * seconds), 0))
    found = scaling.pd.DataFrame({"workers": [1, 2], "hours": [18 / 3600, 9 / 3600]})
    drawn = [list(line.get_ydata() * 3600) for line in scaling.chart(units, found).axes[0].lines]
    assert drawn[0] == pytest.approx([18, 9]) and drawn[1] == drawn[0] and drawn[2] == [9, 9]


@pytest.mark.parametrize(
    ("cost", "seconds"),
    [
        ({"start": 5.0}, 6),
        ({"overhead": 0.5}, 6),  # ten units from one scheduler: the last starts after 5 s
        ({"write": 2.0}, 21),  # ten appends by one client, the first after a second
        ({"cores": 5}, 2),
        ({"weights_mb": 10.0, "mb_per_s": 10.0}, 5),  # 1 + 2 + 3 + 4 units until then
    ],
)
def test_what_one_place_does_for_all_workers_adds_up(cost, seconds):
    hours = scaling.simulate([1.0] * 10, 10, **(NOTHING | cost))[0]
    assert hours * 3600 == pytest.approx(seconds)


def test_workers_that_die_cost_time_and_no_unit():
    units = [10.0] * 200
    alone = scaling.simulate(units, 4, **NOTHING)
    dying = scaling.simulate(units, 4, **NOTHING, lives=60.0, restart=5.0)
    assert dying[2] > 5 and 2 > dying[0] > alone[0] and dying[1] < alone[1] == pytest.approx(1)
