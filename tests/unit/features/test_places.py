"""Places: as a binary search finds them, wherever the integers lie."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from fraudstream.features.places import Places

END = (1 << 62) - 1
held_integers = st.lists(st.integers(0, 20) | st.integers(0, END), max_size=60)
asked_integers = st.lists(st.integers(-20, 20) | st.integers(-END, END), max_size=60)


@given(held_integers, asked_integers)
def test_places_are_those_of_a_binary_search(values, wanted):
    held, asked = np.sort(np.array(values, np.int64)), np.array(wanted, np.int64)
    found = Places(held).first_after(asked)
    assert found.tolist() == held.searchsorted(asked, side="right").tolist()


@pytest.mark.parametrize("clumped", [0, 1, 990])
def test_integers_that_lie_in_one_cell_are_told_apart(clumped):
    held = np.sort(np.append(np.arange(clumped), np.arange(1_000 - clumped) << 50))
    asked = np.append(held, held - 1)
    found = Places(held).first_after(asked)
    assert found.tolist() == held.searchsorted(asked, side="right").tolist()
