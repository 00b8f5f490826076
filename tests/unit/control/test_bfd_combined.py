"""What a shared BFD session runs with (RFC 5882 §2): the most demanding of what its clients want."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.bfd.protocol import AuthKey, Settings
from bgpbfd.control.bfd_sessions import combined
from bgpbfd.core import MILLISECOND

KEY = AuthKey(type="keyed-sha1", key_id=1, key=b"secret")

some_settings = st.builds(
    Settings,
    desired_min_tx_us=st.integers(10, 60_000).map(lambda ms: ms * MILLISECOND),
    required_min_rx_us=st.integers(10, 60_000).map(lambda ms: ms * MILLISECOND),
    detect_mult=st.integers(1, 255),
    passive=st.booleans(),
    demand=st.booleans(),
    control_plane_independent=st.booleans(),
    minimum_ttl=st.integers(1, 255),
    required_min_echo_rx_us=st.sampled_from((0, 10_000, 50_000)),
    echo_tx_us=st.sampled_from((0, 10_000, 50_000)),
    auth=st.just((KEY,)),
)
several = st.lists(some_settings, min_size=1, max_size=4)


@given(wanted=several)
def test_nobody_is_missed_later_than_he_wants_nor_sooner_than_anybody_does(wanted: list[Settings]) -> None:
    """The neighbor misses us after multiplier × interval (RFC 5880 §6.8.4)."""
    result = combined(wanted)
    after = result.detect_mult * result.desired_min_tx_us
    least = min(each.detect_mult * each.desired_min_tx_us for each in wanted)
    assert least - result.desired_min_tx_us < after <= least
    assert min(each.detect_mult for each in wanted) <= result.detect_mult <= 255


@given(wanted=several)
def test_the_most_demanding_counts_whatever_the_order(wanted: list[Settings]) -> None:
    result = combined(wanted)
    assert combined(wanted[::-1]) == result
    assert combined([result, *wanted]) == result
    assert result.required_min_rx_us == min(each.required_min_rx_us for each in wanted)
    assert result.passive == all(each.passive for each in wanted)
    assert result.demand == all(each.demand for each in wanted)
    assert result.control_plane_independent == any(each.control_plane_independent for each in wanted)
    assert result.minimum_ttl == max(each.minimum_ttl for each in wanted)
    assert (result.echo_tx_us > 0) == any(each.echo_tx_us for each in wanted)
    assert result.auth == (KEY,)


def test_a_patient_client_does_not_make_a_nervous_session() -> None:
    """2 × 1 s beside 10 × 50 ms: missed after 500 ms, as one of them wants, and not after 100 ms, as nobody does."""
    patient = Settings(desired_min_tx_us=1_000_000, detect_mult=2)
    quick = Settings(desired_min_tx_us=50_000, detect_mult=10)
    assert combined([patient, quick]).detect_mult == 10
