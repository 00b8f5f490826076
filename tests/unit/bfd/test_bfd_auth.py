"""RFC 5880 §4.2–4.4, §6.7: what is signed, what is accepted, and what a discarded packet leaves behind."""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.bfd.auth import AUTH_TYPES, Authenticator
from bgpbfd.bfd.protocol import AuthKey
from bgpbfd.wire.bfd import ControlPacket, Discard, pull_control, push_control
from bgpbfd.wire.iana import BfdState

SIMPLE = "simple"
KEYED = ["keyed-md5", "keyed-sha1"]
METICULOUS = ["meticulous-keyed-md5", "meticulous-keyed-sha1"]
DIGESTS = [*KEYED, *METICULOUS]
TYPES = [SIMPLE, *DIGESTS]
DIGEST_LENGTH = {name: 20 if "sha1" in name else 16 for name in DIGESTS}
KEY_LENGTH_MAX = {SIMPLE: 16, **DIGEST_LENGTH}
SECRET = b"octopus"
TOP = 2**32

KEYS = st.sampled_from(TYPES).flatmap(
    lambda name: st.builds(
        AuthKey,
        type=st.just(name),
        key_id=st.integers(0, 255),
        key=st.binary(min_size=1, max_size=KEY_LENGTH_MAX[name]),
    )
)
DIGEST_KEYS = KEYS.filter(lambda key: key.type != SIMPLE)
PLAIN = st.builds(
    lambda **fields: push_control(ControlPacket(**fields)),
    state=st.sampled_from(BfdState),
    detect_mult=st.integers(1, 255),
    my_discriminator=st.integers(1, TOP - 1),
    your_discriminator=st.integers(0, TOP - 1),
    desired_min_tx_us=st.integers(0, TOP - 1),
    required_min_rx_us=st.integers(0, TOP - 1),
    diag=st.integers(0, 31),
    poll=st.booleans(),
)


def plain(detect_mult: int = 3, state: BfdState = BfdState.UP, poll: bool = False, final: bool = False) -> bytes:
    """The first 24 octets, before they are signed."""
    return push_control(
        ControlPacket(
            state=state,
            detect_mult=detect_mult,
            my_discriminator=0x01020304,
            your_discriminator=0x0A0B0C0D,
            desired_min_tx_us=50_000,
            required_min_rx_us=50_000,
            poll=poll,
            final=final,
        )
    )


def a_key(name: str, key_id: int = 7, secret: bytes = SECRET) -> AuthKey:
    return AuthKey(type=name, key_id=key_id, key=secret)


def authenticator(*keys: AuthKey, seed: int = 1) -> Authenticator:
    return Authenticator(keys, Random(seed))


def by_the_book(name: str, sequence: int, key_id: int = 7, secret: bytes = SECRET, packet: bytes = b"") -> bytes:
    """RFC 5880 §4.2–4.4 once more, by its figures and without the code under test."""
    octets = bytearray(packet or plain())
    octets[1] |= 4
    number = {
        "simple": 1,
        "keyed-md5": 2,
        "meticulous-keyed-md5": 3,
        "keyed-sha1": 4,
        "meticulous-keyed-sha1": 5,
    }[name]
    if name == SIMPLE:
        octets += bytes([number, 3 + len(secret), key_id]) + secret
        octets[3] = len(octets)
        return bytes(octets)
    octets += bytes([number, 28 if number > 3 else 24, key_id, 0]) + sequence.to_bytes(4, "big")
    octets[3] = 52 if number > 3 else 48
    room = octets[3] - len(octets)
    algorithm = hashlib.new("sha1" if number > 3 else "md5", usedforsecurity=False)
    algorithm.update(octets)
    algorithm.update(secret)
    algorithm.update(b"\0" * (room - len(secret)))
    return bytes(octets) + algorithm.digest()


def sequence_of(packet: bytes) -> int:
    return int.from_bytes(packet[28:32], "big")


def listener(name: str, known: int | None = None) -> Authenticator:
    """One that accepts ``name``, and has just accepted the sequence number ``known``."""
    receiver = authenticator(a_key(name))
    if known is not None:
        assert receiver.verify(by_the_book(name, known)) is None
    return receiver


# -- what is sent ------------------------------------------------------------------------------------------


def test_rfc5880_4_2_simple_layout() -> None:
    packet = authenticator(a_key(SIMPLE)).sign(plain())
    assert packet == bytes.fromhex("20 c4 03 22 01020304 0a0b0c0d 0000c350 0000c350 00000000  01 0a 07") + b"octopus"


@pytest.mark.parametrize(("name", "number"), [("keyed-md5", 2), ("meticulous-keyed-md5", 3)])
def test_rfc5880_4_3_md5_layout(name: str, number: int) -> None:
    packet = authenticator(a_key(name)).sign(plain())
    assert packet[:4] == bytes.fromhex("20 c4 03 30")
    assert packet[24:28] == bytes([number, 24, 7, 0])
    assert len(packet) == 48


@pytest.mark.parametrize(("name", "number"), [("keyed-sha1", 4), ("meticulous-keyed-sha1", 5)])
def test_rfc5880_4_4_sha1_layout(name: str, number: int) -> None:
    packet = authenticator(a_key(name)).sign(plain())
    assert packet[:4] == bytes.fromhex("20 c4 03 34")
    assert packet[24:28] == bytes([number, 28, 7, 0])
    assert len(packet) == 52


@given(KEYS, PLAIN)
def test_rfc5880_6_7_sent_packets_are_those_of_the_book(key: AuthKey, packet: bytes) -> None:
    signed = authenticator(key).sign(packet)
    assert signed == by_the_book(key.type, sequence_of(signed), key.key_id, key.key, packet)


@given(KEYS, PLAIN, st.booleans())
def test_rfc5880_6_7_round_trip(key: AuthKey, packet: bytes, as_bytearray: bool) -> None:
    sender = authenticator(key, seed=1)
    signed = sender.sign(bytearray(packet) if as_bytearray else packet)
    assert len(signed) == len(packet) + sender.section_length() == signed[3]
    parsed = pull_control(signed)
    assert isinstance(parsed, ControlPacket)
    assert parsed.authentication == signed[24:]
    receiver = authenticator(key, seed=2)
    assert receiver.verify(signed) is None
    assert receiver.last_key_id == key.key_id


def test_rfc5880_6_7_without_keys_a_packet_is_left_alone() -> None:
    nobody = authenticator()
    assert not nobody.active
    assert nobody.sign(plain()) == plain()
    assert nobody.section_length() == 0
    assert (nobody.signing_type, nobody.signing_key_id, nobody.last_key_id) == (None, None, None)


def test_the_first_key_signs_and_says_so() -> None:
    sender = authenticator(a_key("keyed-sha1", 9), a_key(SIMPLE, 3))
    assert sender.active
    assert (sender.signing_type, sender.signing_key_id) == ("keyed-sha1", 9)
    assert sender.sign(plain())[24:27] == bytes([4, 28, 9])


def test_rfc5880_6_8_1_the_first_sequence_number_is_random() -> None:
    firsts = {sequence_of(authenticator(a_key("keyed-md5"), seed=n).sign(plain())) for n in range(64)}
    assert len(firsts) == 64
    assert max(firsts) > TOP // 2 > min(firsts)


@pytest.mark.parametrize("name", METICULOUS)
def test_rfc5880_6_7_3_meticulous_moves_with_every_packet(name: str) -> None:
    sender = authenticator(a_key(name))
    first, *rest = (sequence_of(sender.sign(plain(poll=n > 3))) for n in range(6))
    assert rest == [(first + n) % TOP for n in range(1, 6)]


@pytest.mark.parametrize("name", KEYED)
def test_rfc5880_6_7_3_keyed_moves_when_the_contents_do(name: str) -> None:
    sender = authenticator(a_key(name))
    contents = [plain(), plain(), plain(final=True), plain(), plain(), plain(state=BfdState.DOWN)]
    first, *rest = (sequence_of(sender.sign(packet)) for packet in contents)
    assert [(number - first) % TOP for number in rest] == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("name", METICULOUS)
def test_rfc5880_6_7_3_the_sequence_wraps_at_both_ends(name: str) -> None:
    class Last(Random):
        def getrandbits(self, bits: int, /) -> int:
            return int(2**bits - 3)

    sender = Authenticator((a_key(name),), Last())
    receiver = authenticator(a_key(name))
    numbers = []
    for _ in range(5):
        packet = sender.sign(plain())
        assert receiver.verify(packet) is None
        numbers.append(sequence_of(packet))
    assert numbers == [TOP - 2, TOP - 1, 0, 1, 2]


def test_only_a_bare_packet_is_signed() -> None:
    sender = authenticator(a_key("keyed-sha1"))
    with pytest.raises(ValueError, match="24 octets"):
        sender.sign(sender.sign(plain()))


# -- what is accepted --------------------------------------------------------------------------------------


def test_rfc5880_6_8_6_r10_a_section_that_nobody_asked_for() -> None:
    assert authenticator().verify(by_the_book("keyed-sha1", 5)) == "authentication"
    assert authenticator().verify(plain()) is None


@pytest.mark.parametrize("name", TYPES)
def test_rfc5880_6_8_6_r11_a_section_that_is_missing(name: str) -> None:
    assert listener(name).verify(plain()) == "auth-missing"


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("other", TYPES)
def test_rfc5880_6_7_another_type(name: str, other: str) -> None:
    expected = None if name == other else "auth-type"
    assert listener(name).verify(by_the_book(other, 5)) == expected


@pytest.mark.parametrize("number", [0, 6, 255])
def test_rfc5880_6_7_a_type_that_does_not_exist(number: int) -> None:
    packet = bytearray(by_the_book("keyed-md5", 5))
    packet[24] = number
    assert listener("keyed-md5").verify(bytes(packet)) == "auth-type"


@pytest.mark.parametrize("name", TYPES)
def test_rfc5880_6_7_another_key_id(name: str) -> None:
    assert listener(name).verify(by_the_book(name, 5, key_id=8)) == "auth-key-id"


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("by", [-1, 1])
def test_rfc5880_6_7_auth_len_is_wrong(name: str, by: int) -> None:
    packet = bytearray(by_the_book(name, 5))
    packet[25] += by
    assert listener(name).verify(bytes(packet)) == "auth-length"


@pytest.mark.parametrize("name", TYPES)
@given(st.data())
def test_rfc5880_6_7_cut_or_extended_sections(name: str, data: st.DataObject) -> None:
    """Consistent in both length fields or in one, with a digest over it all: never accepted."""
    whole = by_the_book(name, 5)
    length = data.draw(st.integers(26, len(whole) - 1) | st.integers(len(whole) + 1, 200))
    packet = bytearray(whole.ljust(length, b"\0")[:length])
    packet[3] = length
    packet[25] = data.draw(st.sampled_from([whole[25], length - 24]))
    if name != SIMPLE and length >= 32 + DIGEST_LENGTH[name]:
        algorithm = hashlib.new("sha1" if "sha1" in name else "md5", usedforsecurity=False)
        end = 32 + DIGEST_LENGTH[name]
        packet[32:end] = SECRET.ljust(DIGEST_LENGTH[name], b"\0")
        algorithm.update(packet)
        packet[32:end] = algorithm.digest()
    assert listener(name).verify(bytes(packet)) == "auth-length"


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("secret", [b"octopuS", b"squid", b"octopusoctopus", b"\0"])
def test_rfc5880_6_7_another_secret(name: str, secret: bytes) -> None:
    expected = "auth-length" if name == SIMPLE and len(secret) != len(SECRET) else "auth-digest"
    assert listener(name).verify(by_the_book(name, 5, secret=secret)) == expected


@pytest.mark.parametrize("name", DIGESTS)
def test_fault_10_a_keyed_hash_and_no_hmac(name: str) -> None:
    import hmac

    packet = by_the_book(name, 5)
    length = DIGEST_LENGTH[name]
    head = packet[:-length]
    for covered in (head, head + bytes(length)):
        forged = head + hmac.new(SECRET, covered, "sha1" if length == 20 else "md5").digest()
        assert listener(name).verify(forged) == "auth-digest"


@pytest.mark.parametrize("name", DIGESTS)
def test_rfc5880_6_7_3_the_secret_is_not_in_the_packet(name: str) -> None:
    assert SECRET not in authenticator(a_key(name)).sign(plain())


@given(DIGEST_KEYS, PLAIN, st.data())
def test_rfc5880_6_7_3_any_flipped_bit_is_refused(key: AuthKey, packet: bytes, data: st.DataObject) -> None:
    signed = bytearray(authenticator(key).sign(packet))
    bit = data.draw(st.integers(0, 8 * len(signed) - 1))
    signed[bit // 8] ^= 128 >> bit % 8
    receiver = authenticator(key)
    assert receiver.verify(bytes(signed)) is not None
    assert receiver.last_key_id is None


@given(KEYS.filter(lambda key: key.type == SIMPLE), PLAIN, st.data())
def test_rfc5880_6_7_2_any_flipped_bit_of_the_section_is_refused(
    key: AuthKey, packet: bytes, data: st.DataObject
) -> None:
    signed = bytearray(authenticator(key).sign(packet))
    bit = data.draw(st.integers(8 * 24, 8 * len(signed) - 1))
    signed[bit // 8] ^= 128 >> bit % 8
    assert authenticator(key).verify(bytes(signed)) is not None


@given(st.lists(KEYS, max_size=3, unique_by=lambda key: (key.type, key.key_id)), st.binary(max_size=80))
def test_any_octets_are_answered(keys: list[AuthKey], data: bytes) -> None:
    has_section = len(data) >= 24 and data[1] & 4
    verdict = authenticator(*keys).verify(data)
    if not keys:
        assert verdict == ("authentication" if has_section else None)
    else:
        assert isinstance(verdict, Discard)
        assert (verdict == "auth-missing") is not bool(has_section)


@given(st.sampled_from(TYPES), st.dictionaries(st.integers(0, 60), st.integers(0, 255), max_size=4))
def test_any_spoilt_packet_is_answered(name: str, spoilt: dict[int, int]) -> None:
    packet = bytearray(by_the_book(name, 5) + b"padding and more")
    for offset, octet in spoilt.items():
        packet[offset % len(packet)] = octet
    good = packet[: packet[3]] == by_the_book(name, 5)
    verdict = listener(name).verify(bytes(packet))
    assert verdict is None or isinstance(verdict, Discard)
    if name != SIMPLE:  # which vouches for nothing but its own section
        assert (verdict is None) == good


@pytest.mark.parametrize("name", TYPES)
def test_any_short_packet_is_answered(name: str) -> None:
    whole = by_the_book(name, 5)
    verdicts = [listener(name).verify(whole[:length]) for length in range(len(whole))]
    assert verdicts == ["auth-missing"] * 24 + ["auth-length"] * (len(whole) - 24)


@pytest.mark.parametrize("name", TYPES)
def test_rfc9764_octets_behind_length_do_not_count(name: str) -> None:
    receiver = listener(name)
    assert receiver.verify(by_the_book(name, 5) + b"padding") is None
    assert receiver.verify(by_the_book(name, 6) + b"other padding") is None


# -- sequence numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIGESTS)
@pytest.mark.parametrize("known", [0, 1, 1000, TOP - 10, TOP - 1])
@pytest.mark.parametrize("detect_mult", [1, 3, 255])
def test_rfc5880_6_7_3_window_edges(name: str, known: int, detect_mult: int) -> None:
    first = 1 if name in METICULOUS else 0
    last = 3 * detect_mult
    for ahead, accepted in [(-1, False), (first - 1, False), (first, True), (last, True), (last + 1, False)]:
        number = (known + ahead) % TOP
        verdict = listener(name, known).verify(by_the_book(name, number, packet=plain(detect_mult)))
        assert verdict == (None if accepted else "auth-sequence"), ahead


@given(st.sampled_from(DIGESTS), st.integers(0, TOP - 1), st.integers(0, TOP - 1), st.integers(1, 255))
def test_rfc5880_6_7_3_the_window_is_circular(name: str, known: int, number: int, detect_mult: int) -> None:
    inside = {(known + n) % TOP for n in range(name in METICULOUS, 3 * detect_mult + 1)}
    verdict = listener(name, known).verify(by_the_book(name, number, packet=plain(detect_mult)))
    assert verdict == (None if number in inside else "auth-sequence")


@pytest.mark.parametrize("name", METICULOUS)
def test_fault_11_a_replay_is_refused_by_meticulous(name: str) -> None:
    sender, receiver = authenticator(a_key(name)), listener(name)
    seen = [sender.sign(plain()) for _ in range(5)]
    assert [receiver.verify(packet) for packet in seen] == [None] * 5
    assert [receiver.verify(packet) for packet in seen] == ["auth-sequence"] * 5


@pytest.mark.parametrize("name", KEYED)
def test_rfc5880_6_7_3_a_replay_is_accepted_by_keyed_until_the_number_moves(name: str) -> None:
    sender, receiver = authenticator(a_key(name)), listener(name)
    up, down = sender.sign(plain()), sender.sign(plain(state=BfdState.DOWN))
    assert [receiver.verify(packet) for packet in (up, up, up, down, up, down)] == [
        None,
        None,
        None,
        None,
        "auth-sequence",
        None,
    ]


@pytest.mark.parametrize("name", KEYED)
def test_rfc5880_6_7_3_the_same_number_with_other_contents_is_accepted_by_keyed(name: str) -> None:
    """BIRD moves it by the clock, not by the contents."""
    receiver = listener(name)
    for state in (BfdState.UP, BfdState.DOWN, BfdState.UP):
        assert receiver.verify(by_the_book(name, 77, packet=plain(state=state))) is None


@pytest.mark.parametrize("name", DIGESTS)
def test_fault_9_a_wrong_digest_moves_nothing(name: str) -> None:
    receiver = listener(name)
    forged = bytearray(by_the_book(name, 1_000_000))
    forged[-1] ^= 1
    # The number is not known yet: a stranger's must not become the known one.
    assert receiver.verify(bytes(forged)) == "auth-digest"
    assert receiver.verify(by_the_book(name, 50)) is None
    forged = bytearray(by_the_book(name, 55))
    forged[-1] ^= 1
    assert receiver.verify(bytes(forged)) == "auth-digest"
    assert receiver.verify(by_the_book(name, 51)) is None


@pytest.mark.parametrize("name", DIGESTS)
def test_a_number_outside_the_window_moves_nothing(name: str) -> None:
    receiver = listener(name, 50)
    assert receiver.verify(by_the_book(name, 60)) == "auth-sequence"
    assert receiver.verify(by_the_book(name, 40)) == "auth-sequence"
    assert receiver.verify(by_the_book(name, 59)) is None


@pytest.mark.parametrize("name", DIGESTS)
@given(known=st.integers(0, TOP - 1), number=st.integers(0, TOP - 1))
def test_rfc5880_6_8_1_after_forgetting_any_number_is_taken(name: str, known: int, number: int) -> None:
    receiver = listener(name, known)
    receiver.forget()
    assert receiver.verify(by_the_book(name, number)) is None
    # And from then on it counts.
    assert receiver.verify(by_the_book(name, (number - 1) % TOP)) == "auth-sequence"


@pytest.mark.parametrize("name", KEYED)
def test_rfc5880_6_8_1_after_forgetting_the_very_same_packet_counts_again(name: str) -> None:
    receiver = listener(name, 50)
    receiver.forget()
    assert receiver.verify(by_the_book(name, 50)) is None
    assert receiver.verify(by_the_book(name, 49)) == "auth-sequence"


def test_a_stranger_s_packet_does_not_undo_the_repetition_of_the_neighbor_s() -> None:
    """Every accepted packet is as good as the first time, whatever came between."""
    receiver = listener("keyed-sha1")
    good = by_the_book("keyed-sha1", 50)
    for _ in range(3):
        assert receiver.verify(good) is None
        assert receiver.verify(by_the_book("keyed-sha1", 50, secret=b"x")) == "auth-digest"
        assert receiver.verify(plain()) == "auth-missing"


# -- rotation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIGESTS)
def test_rfc5880_6_7_3_every_configured_key_is_accepted_under_one_number(name: str) -> None:
    old, new = a_key(name, 1, b"old"), a_key(name, 2, b"new")
    receiver = authenticator(old, new)
    for number, key in enumerate([old, new, old, new], 100):
        assert receiver.verify(by_the_book(name, number, key.key_id, key.key)) is None
        assert receiver.last_key_id == key.key_id
    assert receiver.verify(by_the_book(name, 102, old.key_id, old.key)) == "auth-sequence"


def test_rfc5880_6_7_the_key_of_one_id_is_no_good_under_another() -> None:
    receiver = authenticator(a_key("keyed-sha1", 1, b"old"), a_key("keyed-sha1", 2, b"new"))
    assert receiver.verify(by_the_book("keyed-sha1", 5, key_id=2, secret=b"old")) == "auth-digest"


@given(DIGEST_KEYS, DIGEST_KEYS)
def test_a_live_rotation_loses_no_packet(old: AuthKey, new: AuthKey) -> None:
    """One end after the other: takes both, signs with the new one, drops the old one."""
    if (old.type, old.key_id) == (new.type, new.key_id):
        new = AuthKey(type=new.type, key_id=(new.key_id + 1) % 256, key=new.key)
    ends = [authenticator(old, seed=1), authenticator(old, seed=2)]

    def talk() -> None:
        for _ in range(3):
            for a, b in (ends, ends[::-1]):
                assert b.verify(a.sign(plain())) is None

    talk()
    steps: list[tuple[AuthKey, ...]] = [(old, new), (new, old), (new,)]
    for keys in steps:
        for end in ends:
            end.change(keys)
            talk()
    assert [end.last_key_id for end in ends] == [new.key_id] * 2
    assert ends[0].verify(by_the_book(old.type, 0, old.key_id, old.key)) in {"auth-type", "auth-key-id"}


@pytest.mark.parametrize("name", DIGESTS)
def test_a_rotation_keeps_the_numbers(name: str) -> None:
    sender, receiver = authenticator(a_key(name, 1, b"old")), authenticator(a_key(name, 1, b"old"))
    first = sender.sign(plain())
    assert receiver.verify(first) is None
    new = (a_key(name, 2, b"new"),)
    sender.change(new)
    receiver.change(new)
    second = sender.sign(plain())
    assert (sequence_of(second) - sequence_of(first)) % TOP == 1
    assert second[26] == 2
    behind = (sequence_of(first) - 1) % TOP
    assert receiver.verify(by_the_book(name, behind, 2, b"new")) == "auth-sequence"
    assert receiver.verify(second) is None


@pytest.mark.parametrize("name", TYPES)
def test_a_removed_key_is_refused_at_once(name: str) -> None:
    receiver = listener(name)
    packet = by_the_book(name, 5)
    assert receiver.verify(packet) is None
    receiver.change((a_key(name, 8),))
    assert receiver.verify(packet) == "auth-key-id"
    receiver.change(())
    assert receiver.verify(packet) == "authentication"
    assert receiver.last_key_id is None


@pytest.mark.parametrize("name", TYPES)
def test_a_changed_secret_under_the_same_id_counts_at_once(name: str) -> None:
    sender, receiver = authenticator(a_key(name)), listener(name)
    assert receiver.verify(sender.sign(plain())) is None
    under_way = sender.sign(plain())
    for end in (sender, receiver):
        end.change((a_key(name, secret=b"sucotpo"),))
    assert receiver.verify(under_way) == "auth-digest"
    assert receiver.verify(sender.sign(plain())) is None


@pytest.mark.parametrize("name", DIGESTS)
@pytest.mark.parametrize("between", [(), (a_key(SIMPLE),)], ids=["none", "simple"])
def test_a_number_that_nobody_followed_is_not_held_against_the_neighbor(
    name: str, between: tuple[AuthKey, ...]
) -> None:
    receiver = listener(name, 1_000_000)
    receiver.change(between)
    receiver.change((a_key(name),))
    assert receiver.verify(by_the_book(name, 5)) is None


# -- keys that are no good ---------------------------------------------------------------------------------

UNUSABLE = [
    pytest.param((a_key("hmac-sha1"),), id="unknown-type"),
    pytest.param((a_key(""),), id="no-type"),
    pytest.param((a_key("keyed-sha1", 256),), id="key-id-256"),
    pytest.param((a_key("keyed-sha1", -1),), id="key-id-minus-1"),
    *(pytest.param((a_key(name, secret=b""),), id=f"{name}-empty") for name in TYPES),
    *(pytest.param((a_key(name, secret=SECRET * 3),), id=f"{name}-too-long") for name in TYPES),
    *(
        pytest.param((a_key(name, secret=b"x" * (KEY_LENGTH_MAX[name] + 1)),), id=f"{name}-one-too-long")
        for name in TYPES
    ),
    pytest.param((a_key("keyed-md5"), a_key("keyed-md5", secret=b"squid")), id="twice"),
    pytest.param((a_key("keyed-md5"), a_key("keyed-sha1", secret=b"")), id="the-second"),
]


@pytest.mark.parametrize("keys", UNUSABLE)
def test_an_unusable_key_fails_closed(keys: tuple[AuthKey, ...]) -> None:
    with pytest.raises(ValueError, match="authentication") as caught:
        Authenticator(keys, Random(1))
    assert "octopus" not in str(caught.value)
    assert "squid" not in str(caught.value)


@pytest.mark.parametrize("keys", UNUSABLE)
def test_an_unusable_key_leaves_the_keys_in_force_as_they_are(keys: tuple[AuthKey, ...]) -> None:
    live = authenticator(a_key("keyed-md5", 3, b"in force"))
    before = live.sign(plain())
    with pytest.raises(ValueError, match="authentication"):
        live.change(keys)
    assert live.sign(plain()) == before
    assert live.verify(by_the_book("keyed-md5", 5, 3, b"in force")) is None
    assert live.verify(plain()) == "auth-missing"


@pytest.mark.parametrize("name", TYPES)
def test_no_secret_in_a_repr(name: str) -> None:
    key = a_key(name)
    both = authenticator(key)
    both.verify(both.sign(plain()))
    held = [getattr(both, slot) for slot in Authenticator.__slots__ if slot in {"_keys", "_signing"}]
    for text in map(repr, (key, both, held)):
        assert "octopus" not in text
        assert SECRET.hex() not in text


def test_the_names_are_those_of_the_configuration() -> None:
    assert list(AUTH_TYPES) == [
        "simple",
        "keyed-md5",
        "meticulous-keyed-md5",
        "keyed-sha1",
        "meticulous-keyed-sha1",
    ]
