"""NLRI fields: prefixes, with or without path identifiers, and flow specifications by their length only.

RFC 4271 §4.3, RFC 4760 §5, RFC 7911 §3, RFC 8955 §4.1.
"""

from __future__ import annotations

from bgpbfd.core import AFI_IPV4, AFI_IPV6

_TOO_LONG = 1 << 20  # more octets than any field has: a forbidden length then fails the one bounds check
_SIZES = {
    afi: tuple(1 + (length + 7) // 8 if length <= longest else _TOO_LONG for length in range(256))
    for afi, longest in ((AFI_IPV4, 32), (AFI_IPV6, 128))
}
_HOST_BITS = tuple(0xFF >> (length & 7) if length & 7 else 0 for length in range(256))


class NlriError(ValueError):
    """An NLRI field that cannot be split: a prefix length too great, or one that runs past the field."""


def pull_prefixes(data: bytes | memoryview, afi: int) -> list[bytes]:
    """Split a field of prefixes of ``afi`` 1 or 2 into wire octets each: length, address with host bits cleared.

    Raises NlriError for a length over 32 or 128 and for an overrun.
    """
    if not isinstance(data, bytes):
        data = bytes(data)
    prefixes: list[bytes] = []
    append = prefixes.append
    sizes = _SIZES[afi]
    host_bits = _HOST_BITS
    position = 0
    end = len(data)
    length = 0
    while position < end:
        length = data[position]
        following = position + sizes[length]
        prefix = data[position:following]
        # RFC 4271 §4.3: the value of the trailing bits is irrelevant
        if prefix[-1] & host_bits[length]:
            prefix = prefix[:-1] + bytes((prefix[-1] & ~host_bits[length],))
        append(prefix)
        position = following
    if position != end:  # only the last can run past the field
        raise NlriError(f"prefix length {length} with {end - position + sizes[length] - 1} octets left")
    return prefixes


def pull_paths(data: bytes, afi: int) -> tuple[list[bytes], list[int]]:
    """Split a field of prefixes with a path identifier before each (RFC 7911 §3) into prefixes and identifiers.

    The prefixes are as ``pull_prefixes`` has them; raises NlriError as it does, and for an identifier cut short.
    """
    prefixes: list[bytes] = []
    path_ids: list[int] = []
    sizes = _SIZES[afi]
    host_bits = _HOST_BITS
    position = 0
    end = len(data)
    while position < end:
        start = position + 4
        if start >= end:
            raise NlriError(f"{end - position} octets left for a path identifier and a prefix")
        length = data[start]
        following = start + sizes[length]
        if following > end:
            raise NlriError(f"prefix length {length} with {end - start - 1} octets left")
        prefix = data[start:following]
        if prefix[-1] & host_bits[length]:
            prefix = prefix[:-1] + bytes((prefix[-1] & ~host_bits[length],))
        prefixes.append(prefix)
        path_ids.append(int.from_bytes(data[position:start], "big"))
        position = following
    return prefixes, path_ids


def pull_flows(data: bytes) -> list[bytes]:
    """Split a field of flow specifications; each has its length octet or octets (RFC 8955 §4.1).

    A length below 240 takes one octet, however it came: the same rule has the same octets.

    Raises NlriError for an overrun and for an empty specification.
    """
    flows: list[bytes] = []
    position = 0
    end = len(data)
    while position < end:
        length = data[position]
        start = position + 1
        if length >= 0xF0:
            if start == end:
                raise NlriError("flow specification length cut off")
            length = (length & 0x0F) << 8 | data[start]
            start += 1
        following = start + length
        if following > end or length == 0:
            raise NlriError(f"flow specification length {length} with {end - start} octets left")
        short = length < 0xF0 and start - position == 2
        flows.append(bytes((length,)) + data[start:following] if short else data[position:following])
        position = following
    return flows
