"""RFC 5880 §6 rule by rule, on one session and hand-made packets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bfd_bench import ADMIN_DOWN, DOWN, FAST, INIT, MS, UP, Bench, intervals, settled

from bgpbfd.bfd.protocol import Settings
from bgpbfd.bfd.states import Transition, Transmit
from bgpbfd.bfd.variables import Variables
from bgpbfd.core import SECOND
from bgpbfd.wire.iana import BfdState

# -- reception ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "received", "expected", "diag"),
    [
        (DOWN, ADMIN_DOWN, DOWN, 0),
        (DOWN, DOWN, INIT, 0),
        (DOWN, INIT, UP, 0),
        (DOWN, UP, DOWN, 0),
        (INIT, ADMIN_DOWN, DOWN, 3),
        (INIT, DOWN, INIT, 0),
        (INIT, INIT, UP, 0),
        (INIT, UP, UP, 0),
        (UP, ADMIN_DOWN, DOWN, 3),
        (UP, DOWN, DOWN, 3),
        (UP, INIT, UP, 0),
        (UP, UP, UP, 0),
        (ADMIN_DOWN, ADMIN_DOWN, ADMIN_DOWN, 7),
        (ADMIN_DOWN, DOWN, ADMIN_DOWN, 7),
        (ADMIN_DOWN, INIT, ADMIN_DOWN, 7),
        (ADMIN_DOWN, UP, ADMIN_DOWN, 7),
    ],
)
def test_rfc5880_6_8_6_state_machine(local: BfdState, received: BfdState, expected: BfdState, diag: int) -> None:
    bench = Bench(admin_down=local is ADMIN_DOWN)
    if local is INIT:
        bench.hear(state=DOWN)
    elif local is UP:
        bench.up()
    assert bench.session.state is local
    bench.transitions.clear()
    sent = bench.hear(state=received)
    assert bench.session.state is expected
    assert bench.session.diag == diag
    if expected is not local:
        assert [(t.old, t.new) for t in bench.transitions] == [(local, expected)]
        assert [(p.state, p.diag) for p in sent] == [(expected, diag)]  # §6.8.7: told at once
    else:
        # RFC 5882 §3.2: that the remote is AdminDown is news, though it moves nothing.
        news = [(local, local, True)] if received is ADMIN_DOWN and local is DOWN else []
        assert [(t.old, t.new, t.remote_admin_down) for t in bench.transitions] == news
        assert sent == []


def test_rfc5880_6_8_6_discards_authentication_where_none_is_configured() -> None:
    bench = Bench().up()
    last_rx = bench.session.last_rx
    bench.now += 10
    assert bench.hear(state=DOWN, authentication=b"\1\3\1") == []
    assert bench.session.state is UP
    assert bench.session.last_rx == last_rx
    assert bench.session.discards == {"authentication": 1}


def test_rfc5880_6_8_6_admin_down_discards_polls_too() -> None:
    bench = Bench(admin_down=True)
    assert bench.hear(state=UP, poll=True) == []
    assert bench.session.discards == {"admin-down": 1}
    assert bench.session.remote_discriminator == 9  # what comes before that step is noted


def test_rfc5880_6_8_7_poll_is_answered_at_once_and_leaves_the_timer_alone() -> None:
    bench = Bench().up()
    due = bench.session.tx_due
    sent = bench.hear(state=UP, poll=True)
    assert [(p.final, p.poll) for p in sent] == [(True, False)]
    assert bench.session.tx_due == due


def test_rfc5880_6_8_6_poll_is_answered_under_demand_and_with_remote_min_rx_zero() -> None:
    bench = Bench().up()
    bench.hear(state=UP, demand=True, required_min_rx_us=0)
    sent = bench.hear(state=UP, demand=True, required_min_rx_us=0, poll=True)
    assert [p.final for p in sent] == [True]


def test_rfc5880_6_5_final_is_never_sent_with_poll() -> None:
    bench = Bench()
    bench.run(60 * MS)
    sent = bench.hear(state=INIT, poll=True)  # the very packet that starts a poll of ours
    assert [(p.final, p.poll) for p in sent] == [(True, False)]
    assert bench.session.polling
    assert {p.poll for _, p in bench.run(200 * MS, hear_every=50 * MS, state=UP)} == {True}


def test_rfc5880_6_8_4_expiry_in_up_is_down_with_diag_1() -> None:
    bench = Bench().up()
    heard_at = bench.now
    sent = bench.run(10 * SECOND)
    [down] = bench.transitions
    assert (down.old, down.new, down.diag, down.blame) == (UP, DOWN, 1, "path-loss")
    assert down.at == heard_at + 150 * MS
    assert (down.last_rx, down.detection_time_us) == (heard_at, 150 * MS)
    first = next(p for at, p in sent if at == down.at)
    assert (first.state, first.diag) == (DOWN, 1)


def test_a_down_is_told_before_it_is_sent() -> None:
    """The neighbor closes BGP when it reads Down: our side should know why by then."""
    session = Bench().up().session
    deadline = session.detection_deadline()
    assert deadline is not None
    kinds = [type(action) for action in session.wake(deadline)]
    assert kinds[:2] == [Transition, Transmit]


def test_rfc5880_6_8_4_detection_time_is_the_remotes_multiplier_over_the_greater_interval() -> None:
    bench = Bench().up()
    bench.hear(state=UP, detect_mult=7, desired_min_tx_us=20 * MS)
    assert bench.session.detection_time_us == 7 * 50 * MS
    bench.hear(state=UP, detect_mult=2, desired_min_tx_us=400 * MS)
    assert bench.session.detection_time_us == 2 * 400 * MS


def test_rfc5880_6_8_4_expiry_in_init() -> None:
    bench = Bench()
    bench.hear(state=DOWN)
    bench.run(SECOND)
    assert [(t.old, t.new, t.diag) for t in bench.transitions] == [(DOWN, INIT, 0), (INIT, DOWN, 1)]


@pytest.mark.parametrize("state", [DOWN, UP])
def test_rfc5880_6_8_1_silence_forgets_the_remote_discriminator(state: BfdState) -> None:
    """Fault 7: or a restarted passive remote and we discard each other for ever. Down as well as Up."""
    bench = Bench().up()
    if state is DOWN:
        bench.hear(state=ADMIN_DOWN)
    assert bench.session.remote_discriminator == 9
    sent = bench.run(5 * SECOND)
    assert sent[-1][1].your_discriminator == 0
    assert bench.session.remote_discriminator == 0


def test_rfc5880_6_8_18_silence_ends_the_remotes_wish_for_silence() -> None:
    bench = Bench().up()
    bench.hear(state=UP, required_min_rx_us=0)
    bench.run(100 * MS)
    sent = bench.run(3 * SECOND)
    assert bench.session.state is DOWN
    assert bench.session.remote_min_rx_us == 1
    assert len(sent) >= 3


def test_rfc5880_6_8_6_remote_admin_down_is_told_apart() -> None:
    """RFC 5882 §3.2: AdminDown is no failure, and diag 3 alone would hide it."""
    bench = Bench().up()
    bench.hear(state=ADMIN_DOWN, diag=7)
    assert [(t.remote_admin_down, t.blame, t.diag, t.remote_diag) for t in bench.transitions] == [(True, "admin", 3, 7)]
    bench = Bench().up()
    bench.hear(state=DOWN, diag=1)
    assert [(t.remote_admin_down, t.blame) for t in bench.transitions] == [(False, "remote-signalled")]


def test_rfc5880_6_8_1_diag_is_cleared_when_up_again() -> None:
    bench = Bench().up()
    bench.run(SECOND)
    assert bench.session.diag == 1
    bench.hear(state=DOWN)
    assert (bench.session.state, bench.session.diag) == (INIT, 1)
    bench.hear(state=UP)
    assert (bench.session.state, bench.session.diag) == (UP, 0)


def test_rfc5880_6_8_6_a_new_remote_discriminator_is_echoed_at_once() -> None:
    bench = Bench().up()
    sent = bench.hear(state=DOWN, my_discriminator=77, your_discriminator=0)
    assert [p.your_discriminator for p in sent] == [77]


# -- transmission ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("detect_mult", "low", "high"), [(3, 75, 100), (1, 75, 90)])
def test_rfc5880_6_8_7_jitter(detect_mult: int, low: int, high: int) -> None:
    timers = Settings(desired_min_tx_us=100 * MS, required_min_rx_us=50 * MS, detect_mult=detect_mult)
    bench = Bench(timers).up()
    bench.run(SECOND, hear_every=50 * MS, state=UP)
    gaps = intervals(bench.run(200 * SECOND, hear_every=50 * MS, state=UP))
    assert len(gaps) > 1000
    assert low * MS <= min(gaps) < (low + 1) * MS
    assert (high - 3) * MS < max(gaps) <= high * MS
    assert len(set(gaps)) > 500


def test_rfc5880_6_8_7_interval_respects_the_remotes_min_rx_and_its_changes_at_once() -> None:
    bench = Bench().up()
    gaps = intervals(bench.run(20 * SECOND, hear_every=50 * MS, state=UP, required_min_rx_us=400 * MS))
    assert min(gaps[2:]) >= 300 * MS
    assert max(gaps) <= 400 * MS
    gaps = intervals(bench.run(SECOND, hear_every=50 * MS, state=UP))
    assert max(gaps[2:]) <= 50 * MS


@pytest.mark.parametrize("state", [DOWN, INIT, ADMIN_DOWN])
def test_rfc5880_6_8_3_slow_when_not_up(state: BfdState) -> None:
    bench = Bench(admin_down=state is ADMIN_DOWN)
    bench.run(60 * MS)
    if state is INIT:
        bench.hear(state=DOWN)
    sent = bench.run(20 * SECOND, hear_every=100 * MS, state=DOWN if state is INIT else UP)
    assert {p.state for _, p in sent} == {state}
    assert {p.desired_min_tx_us for _, p in sent} == {SECOND}
    gaps = intervals(sent)
    assert min(gaps) >= 750 * MS
    assert max(gaps) <= SECOND


def test_fault_6_neighbor_signalled_down_slows_down_too() -> None:
    bench = Bench().up()
    bench.hear(state=DOWN)
    gaps = intervals(bench.run(10 * SECOND, hear_every=100 * MS, state=UP))
    assert bench.session.state is DOWN
    assert min(gaps) >= 750 * MS


def test_rfc5880_6_1_passive_is_silent_until_spoken_to_and_after_silence() -> None:
    timers = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS, detect_mult=3, passive=True)
    bench = Bench(timers)
    assert bench.run(10 * SECOND) == []
    assert [p.state for p in bench.hear(state=DOWN, your_discriminator=0)] == [INIT]
    assert len(bench.run(2 * SECOND, hear_every=100 * MS)) >= 2
    bench.run(SECOND)  # the detection time passes
    assert bench.session.state is DOWN
    assert bench.run(10 * SECOND) == []


def test_rfc5880_6_8_7_nothing_periodic_while_remote_min_rx_is_zero() -> None:
    bench = Bench().up()
    bench.hear(state=UP, required_min_rx_us=0)
    assert bench.run(5 * SECOND, hear_every=50 * MS, state=UP, required_min_rx_us=0) == []
    assert bench.session.state is UP
    assert len(bench.run(SECOND, hear_every=50 * MS, state=UP)) > 15


def test_rfc5880_6_8_6_remote_demand_ceases_periodic_sending_unless_polling() -> None:
    bench = Bench().up()
    bench.run(SECOND, hear_every=50 * MS, state=UP)
    bench.hear(state=UP, demand=True)
    assert bench.run(5 * SECOND, hear_every=50 * MS, state=UP, demand=True) == []
    changed = replace_timers(FAST, required_min_rx_us=60 * MS)
    bench.take(bench.session.change(changed, bench.now))
    polls = bench.run(SECOND, hear_every=50 * MS, state=UP, demand=True)
    assert {p.poll for _, p in polls} == {True}
    assert len(polls) > 15
    bench.hear(state=UP, demand=True, final=True)
    assert bench.run(5 * SECOND, hear_every=50 * MS, state=UP, demand=True) == []
    assert bench.session.state is UP
    assert len(bench.run(SECOND, hear_every=50 * MS, state=UP)) > 15


# -- timer changes --------------------------------------------------------------------------------------------


def replace_timers(timers: Settings, **fields: int) -> Settings:
    kept = {name: getattr(timers, name) for name in ("desired_min_tx_us", "required_min_rx_us", "detect_mult")}
    return Settings(**{**kept, **fields})


def test_rfc5880_6_8_3_up_polls_the_configured_rate_in() -> None:
    bench = Bench()
    bench.run(60 * MS)
    [packet] = bench.hear(state=INIT)
    assert (packet.state, packet.poll, packet.desired_min_tx_us) == (UP, True, 50 * MS)
    assert {p.poll for _, p in bench.run(SECOND, hear_every=50 * MS, state=UP)} == {True}
    bench.hear(state=UP, final=True)
    assert {p.poll for _, p in bench.run(SECOND, hear_every=50 * MS, state=UP)} == {False}


def test_rfc5880_6_8_3_slower_transmission_waits_for_the_final() -> None:
    bench = settled()
    [packet] = bench.take(bench.session.change(replace_timers(FAST, desired_min_tx_us=500 * MS), bench.now))
    assert (packet.poll, packet.desired_min_tx_us) == (True, 500 * MS)
    polls = bench.run(2 * SECOND, hear_every=50 * MS, state=UP)
    assert max(intervals(polls)) <= 50 * MS
    assert {(p.poll, p.desired_min_tx_us) for _, p in polls} == {(True, 500 * MS)}
    bench.hear(state=UP, final=True)
    after = bench.run(10 * SECOND, hear_every=50 * MS, state=UP)
    assert min(intervals(after)) >= 375 * MS
    assert {p.poll for _, p in after} == {False}


def test_rfc5880_6_8_3_faster_transmission_applies_at_once() -> None:
    bench = settled(replace_timers(FAST, desired_min_tx_us=500 * MS))
    bench.take(bench.session.change(FAST, bench.now))
    assert max(intervals(bench.run(2 * SECOND, hear_every=50 * MS, state=UP))) <= 50 * MS


def test_rfc5880_6_8_3_lower_required_rx_keeps_the_detection_time_until_the_final() -> None:
    bench = settled(replace_timers(FAST, required_min_rx_us=300 * MS))
    bench.take(bench.session.change(FAST, bench.now))
    bench.hear(state=UP)
    assert bench.session.detection_time_us == 900 * MS
    bench.hear(state=UP, final=True)
    assert bench.session.detection_time_us == 150 * MS


def test_rfc5880_6_8_3_higher_required_rx_lengthens_the_detection_time_at_once() -> None:
    bench = settled()
    bench.take(bench.session.change(replace_timers(FAST, required_min_rx_us=300 * MS), bench.now))
    assert bench.session.detection_time_us == 900 * MS


def test_rfc5880_6_8_3_second_change_waits_for_the_first_poll() -> None:
    bench = settled()
    bench.take(bench.session.change(replace_timers(FAST, desired_min_tx_us=200 * MS), bench.now))
    assert bench.take(bench.session.change(replace_timers(FAST, desired_min_tx_us=400 * MS), bench.now)) == []
    polls = bench.run(SECOND, hear_every=50 * MS, state=UP)
    assert {p.desired_min_tx_us for _, p in polls} == {200 * MS}
    bench.hear(state=UP, final=True)
    following = [p for _, p in bench.run(SECOND, hear_every=50 * MS, state=UP)]
    assert (following[0].poll, following[0].desired_min_tx_us) == (False, 200 * MS)
    assert (following[1].poll, following[1].desired_min_tx_us) == (True, 400 * MS)


def test_fault_8_late_final_of_one_poll_does_not_end_the_next() -> None:
    bench = settled()
    bench.take(bench.session.change(replace_timers(FAST, desired_min_tx_us=200 * MS), bench.now))
    bench.take(bench.session.change(replace_timers(FAST, desired_min_tx_us=400 * MS), bench.now))
    bench.hear(state=UP, final=True)
    bench.hear(state=UP, final=True)  # the second answer to the first poll
    bench.run(SECOND, hear_every=50 * MS, state=UP)
    assert bench.session.polling
    assert bench.session.tx_in_force_us == 200 * MS


def test_fault_8_final_without_a_poll_means_nothing() -> None:
    bench = settled()
    before = (bench.session.transmit_interval_us, bench.session.detection_time_us)
    assert bench.hear(state=UP, final=True) == []
    assert (bench.session.transmit_interval_us, bench.session.detection_time_us) == before
    assert bench.session.state is UP


def test_rfc5880_6_8_12_detect_mult_changes_without_a_poll() -> None:
    bench = settled()
    [packet] = bench.take(bench.session.change(replace_timers(FAST, detect_mult=5), bench.now))
    assert (packet.detect_mult, packet.poll) == (5, False)
    assert bench.transitions == []


def test_down_during_a_poll_ends_it() -> None:
    bench = settled()
    bench.take(bench.session.change(replace_timers(FAST, desired_min_tx_us=200 * MS), bench.now))
    [packet] = bench.hear(state=DOWN)
    assert (packet.poll, packet.desired_min_tx_us) == (False, SECOND)


# -- administration, stalls -----------------------------------------------------------------------------------


def test_rfc5880_6_8_16_admin_down_is_signalled_and_taken_back() -> None:
    bench = settled()
    assert bench.session.linger_us() == 150 * MS
    [packet] = bench.take(bench.session.set_admin_down(True, bench.now))
    assert (packet.state, packet.diag) == (ADMIN_DOWN, 7)
    assert [(t.new, t.blame) for t in bench.transitions] == [(ADMIN_DOWN, "admin")]
    bench.run(3 * SECOND, hear_every=SECOND, state=DOWN)
    [packet] = bench.take(bench.session.set_admin_down(False, bench.now))
    assert (packet.state, packet.diag) == (DOWN, 0)
    bench.hear(state=DOWN)
    assert bench.session.state is INIT


def test_control_lost_signals_down_and_stays_down_until_it_returns() -> None:
    bench = settled()
    [packet] = bench.take(bench.session.set_control_lost(True, bench.now))
    assert (packet.state, packet.diag) == (DOWN, 4)
    for state in (UP, DOWN, INIT):
        bench.run(SECOND, hear_every=200 * MS, state=state)
        assert bench.session.state is DOWN
    bench.session.set_control_lost(False, bench.now)
    bench.hear(state=INIT)
    assert bench.session.state is UP


def test_fault_4_packets_that_waited_out_a_stall_count_from_their_arrival() -> None:
    bench = settled()
    start = bench.now
    bench.now += 400 * MS  # nobody ran; the remote's packets lay in the socket
    for arrival in range(start + 50 * MS, bench.now, 50 * MS):
        bench.take(bench.session.receive(replace(bench.remote, state=UP), arrival, bench.now))
    bench.take(bench.session.wake(bench.now))
    assert bench.transitions == []
    assert bench.session.last_rx == bench.now - 50 * MS
    assert bench.session.detection_deadline() == bench.now + 100 * MS


def test_local_stall_is_blamed_when_our_silence_made_the_remote_expire() -> None:
    bench = settled()
    bench.now += 400 * MS
    bench.hear(state=DOWN, diag=1)
    assert [t.blame for t in bench.transitions] == ["local-stall"]


def test_local_stall_is_blamed_when_the_remotes_word_comes_just_after_it() -> None:
    bench = settled()
    start = bench.now
    bench.now += 400 * MS
    for arrival in range(start, bench.now, 50 * MS):
        bench.take(bench.session.receive(replace(bench.remote, state=UP), arrival, bench.now))
    bench.take(bench.session.wake(bench.now))
    bench.now += 5 * MS
    bench.hear(state=DOWN, diag=1)
    assert [t.blame for t in bench.transitions] == ["local-stall"]


def test_lost_evidence_grants_one_more_detection_time_and_no_second() -> None:
    bench = settled()
    heard_at = bench.session.last_rx
    assert heard_at is not None
    bench.now = heard_at + 150 * MS
    bench.take(bench.session.wake(bench.now, True))
    assert bench.transitions == []
    bench.now += 150 * MS
    bench.take(bench.session.wake(bench.now, True))
    assert [(t.new, t.blame, t.last_rx) for t in bench.transitions] == [(DOWN, "local-stall", heard_at)]


def test_asking_for_the_deadline_changes_nothing() -> None:
    bench = settled()
    assert {bench.session.next_deadline() for _ in range(5)} == {bench.session.next_deadline()}


def test_steady_repetition_is_worth_a_full_reception() -> None:
    """The worker's short cut and its plain twin leave the same session behind."""
    plain, short = settled(), settled()
    packet = replace(plain.remote, state=UP)
    assert short.session.is_steady(packet)
    for bench in (plain, short):
        bench.now += 10 * MS
    assert plain.session.receive(packet, plain.now, plain.now) == []
    short.session.receive_steady(short.now)
    names = [n for n in Variables.__slots__ if n not in {"rng", "_packet", "auth", "echo"}]
    assert {n: getattr(plain.session, n) for n in names} == {n: getattr(short.session, n) for n in names}


@pytest.mark.parametrize(
    "fields", [{"poll": True}, {"final": True}, {"state": DOWN}, {"state": ADMIN_DOWN}, {"demand": True}]
)
def test_what_asks_for_more_than_a_refresh_is_not_steady(fields: dict[str, object]) -> None:
    bench = settled()
    bench.hear(**{"state": UP, **fields})
    assert not bench.session.is_steady(replace(bench.remote, **{"state": UP, **fields}))  # type: ignore[arg-type]
