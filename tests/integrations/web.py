"""Web applications for tests: servers in processes of their own, and applications called in this one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from starlette.applications import Starlette

from tests.waiting import SECONDS, until

ROOT = Path(__file__).parents[2]


class WebServer:
    """A process that serves `url`, and what it wrote."""

    def __init__(self, words: Sequence[str], folder: Path, url: str) -> None:
        self.url = url
        # Loopback without TLS: authorities and proxies are not looked for, which takes longer than a request.
        self.web = httpx.Client(base_url=url, timeout=SECONDS, verify=False, trust_env=False)
        self.log = folder / "server.log"
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}", "KATAX_PROFILE": "test"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def answers(self, path: str = "/live") -> bool:
        """True once a request is answered with 200; the test has failed when the process ended."""
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return self.web.get(path).status_code == 200
        return False

    def look(self, path: str) -> httpx.Response:
        """The answer of a server that is well: asked again while a busy machine is too slow for it (503)."""
        answers: list[httpx.Response] = []

        def is_told() -> bool:
            answers.append(self.web.get(path))
            return answers[-1].status_code != 503

        until(is_told)
        return answers[-1]

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@contextlib.contextmanager
def serving(words: Sequence[str], folder: Path, url: str) -> Iterator[WebServer]:
    """A server that answers; whatever is left of its processes is killed afterwards."""
    server = WebServer(words, folder, url)
    try:
        until(server.answers)
        yield server
    finally:
        server.web.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait(SECONDS)


def uvicorn(app: str, folder: Path, port: int, *more: str) -> contextlib.AbstractContextManager[WebServer]:
    """uvicorn with this application on a port of loopback."""
    words = ["uvicorn", app, "--host", "127.0.0.1", "--port", str(port), *more]
    return serving(words, folder, f"http://127.0.0.1:{port}")


class Started:
    """An application of this process between start and end of its lifespan; cookies are kept, as a browser does."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()
        self._state: dict[str, Any] = {}
        self.cookies = httpx.Cookies()

    def __enter__(self) -> Self:
        try:
            self._runner.run(self._start())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._runner:
            self._runner.run(self._stack.aclose())

    def get(self, path: str, **more: Any) -> httpx.Response:
        """One request; errors that the application does not answer are raised."""
        return self._runner.run(self.request("GET", path, **more))

    def together(self, *paths: str) -> list[httpx.Response]:
        """Requests side by side."""

        async def all_of_them() -> list[httpx.Response]:
            return await asyncio.gather(*(self.request("GET", path) for path in paths))

        return self._runner.run(all_of_them())

    async def request(self, method: str, path: str, client: str = "127.0.0.1", **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._with_state, client=(client, 1234))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", cookies=self.cookies
        ) as web:
            answer = await web.request(method, path, **more)
            self.cookies.update(web.cookies)
            if any(header.startswith("session=;") for header in answer.headers.get_list("set-cookie")):
                self.cookies.clear()
            return answer

    async def _start(self) -> None:
        state = await self._stack.enter_async_context(self._app.router.lifespan_context(self._app))
        self._state = dict(state or {})

    async def _with_state(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "state": dict(self._state)}, receive, send)

    def handshake(self, path: str) -> Any:
        """The first message in answer to a WebSocket's opening."""
        sent: list[Any] = []
        scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "subprotocols": []}

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        self._runner.run(self._with_state(scope, receive, send))
        return sent[0]
