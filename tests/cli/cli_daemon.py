"""An API server with the API tests' fake engine, in a thread, for the real command to talk to."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "api"))

from api_fake import FakeEngine

from bgpbfd.api.server import ApiServer

COMMAND = [sys.executable, "-W", "error", "-c", "import sys; from bgpbfdctl.main import main; sys.exit(main())"]


class Daemon:
    """``stop`` and ``start`` play a daemon that goes and comes back."""

    def __init__(self, path: Path) -> None:
        self.engine = FakeEngine()
        self.path = path
        self.api = f"unix:{path}"
        self.tcp = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server: ApiServer | None = None

    def start(self) -> None:
        self._server = ApiServer(self.engine, [self.api, "127.0.0.1:0"], 0o600)
        self._run(self._server.start())
        self.tcp = self._server.addresses()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._run(self._server.stop())
            self._server = None

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("BGPBFD_API", "NO_COLOR", "COLUMNS")}
        return kept | {"BGPBFD_API": self.api, "TZ": "UTC"} | more

    def ctl(self, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *args], env=self.environment(**more), capture_output=True, text=True, timeout=30, check=False
        )

    def popen(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen([*COMMAND, *args], env=self.environment(), text=True, **options)
