"""Configurations for simulated hosts, as texts."""

from __future__ import annotations


def toml(local: str, asn: int, *peers: str, extra: str = "") -> str:
    head = f'router_id = "{local}"\ndefault_as = {asn}\nbgp_socket = "[::]:179"\npoll_interval = 1\n'
    return head + "\n".join([*peers, extra])


def peer(remote: str, asn: int, *extra: str, routes: tuple[str, ...] = ()) -> str:
    keys = [f'remote_ip = "{remote}"', f"remote_as = {asn}", 'families = ["ipv4 unicast"]', *extra]
    text = "\n".join(["[[peers]]", *keys, ""])
    for prefix in routes:
        text += f'[[peers.static_routes]]\nprefix = "{prefix}"\nnext_hop = "self"\n'
    return text
