"""What the log masks, should a text of the system's ever hold it."""

from __future__ import annotations

import pytest

from bgpbfd import daemon
from bgpbfd.config.load import loads

CONFIG = """
router_id = "10.0.0.1"
default_as = 65010
[bfd.profiles.signed]
auth = { type = "keyed-sha1", key_id = 1, key = "of a profile" }
[[bfd.sessions]]
peer = "10.0.0.9"
auth = { type = "keyed-sha1", key_id = 1, key = "of a session" }
[bfd.unsolicited]
networks = ["10.1.0.0/24"]
profile = "signed"
[[peers]]
remote_ip = "10.0.0.2"
remote_as = 65001
md5_password = "of tcp"
bfd = { auth = [
  { type = "keyed-sha1", key_id = 1, key = "of a peer" },
  { type = "keyed-sha1", key_id = 2, key = "0xc0ffee" },
  { type = "simple", key_id = 3, key = "bfd" },
] }
"""


def test_every_key_and_password_of_some_length_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: set[str] = set()
    monkeypatch.setattr("bgpbfd.log.hide", lambda *secrets: hidden.update(secrets))
    daemon._hide_secrets(loads(CONFIG))
    assert hidden == {"of a profile", "of a session", "of tcp", "of a peer", "0xc0ffee"}
