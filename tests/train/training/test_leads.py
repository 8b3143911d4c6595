"""The memory of leads: how fast they fall, and when to look again."""

import numpy as np
import pytest

from train.training.leads import Leads

ROWS = np.arange(100)


def noted(leads, lead, epoch, *, limit=1.0, most=3, rows=ROWS):
    lead = np.broadcast_to(np.asarray(lead, np.float32), len(rows))
    leads.note(rows, lead, epoch, limit=limit, most=most)
    return leads.look_from[rows] - epoch - 1


def test_nothing_is_skipped_before_two_looks():
    leads = Leads.unknown(100)
    assert (noted(leads, 9.0, 0) == 0).all()
    assert np.isinf(leads.fall)


def test_a_lead_lasts_as_long_as_it_takes_to_fall_to_the_limit():
    leads = Leads.unknown(100)
    noted(leads, 9.0, 0)
    # A fall of 2 an epoch: 4 above the limit are two epochs, 1.5 none.
    assert (noted(leads, 5.0, 2) == 2).all()
    assert leads.fall == 2.0
    assert (noted(leads, 2.5, 3, rows=ROWS[:1]) == 0).all()


def test_the_speed_is_that_of_all_but_the_fastest_fiftieth():
    leads = Leads.unknown(100)
    noted(leads, 50.0, 0)
    lead = np.full(100, 49.0)
    lead[:2] = 10.0
    lasting = noted(leads, lead, 1)
    assert 1.0 <= leads.fall < 2.0
    # An example that fell faster itself has its own speed.
    assert (lasting[:2] == 0).all()
    assert (lasting[2:] == 3).all()


def test_unsettled_examples_and_few_ones_say_nothing_of_the_speed():
    leads = Leads.unknown(100)
    noted(leads, 0.5, 0)
    noted(leads, 0.1, 1)
    assert np.isinf(leads.fall)
    noted(leads, 9.0, 2)
    noted(leads, 1.0, 3, rows=ROWS[:31])
    assert np.isinf(leads.fall)
    noted(leads, 1.0, 3, rows=ROWS[31:63])
    assert leads.fall == 8.0


def test_the_newest_examples_move_the_speed():
    leads = Leads.unknown(100)
    for epoch, lead in enumerate((9.0, 8.0, 4.0)):
        noted(leads, lead, epoch)
    assert leads.fall == 1.0 + 0.25 * 3.0


@pytest.mark.parametrize("lead", [np.inf, 40.0])
def test_leads_that_rise_or_are_infinite_last_longest(lead):
    leads = Leads.unknown(100)
    noted(leads, 5.0, 0)
    noted(leads, 4.0, 1)
    assert (noted(leads, lead, 2) == 3).all()
    assert (noted(leads, lead, 3) == 3).all()


def test_what_steps_saw_is_taken_where_nothing_is_known():
    leads = Leads.unknown(4)
    noted(leads, 2.0, 3, rows=np.array([0]))
    leads.begin(np.array([7.0, 7.0, np.nan, 7.0], np.float32), 5)
    np.testing.assert_array_equal(leads.lead, np.float32([2, 7, np.nan, 7]))
    np.testing.assert_array_equal(leads.epoch, [3, 5, 0, 5])
