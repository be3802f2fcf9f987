"""The process that serves: it listens, and when it is told to end, it first answers what was asked."""

import asyncio
import signal
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from lightning_modules import InputError
from lightning_modules.images.pictures import quiet

_CONNECTIONS = 1024  # at a time; beyond, a connection is told so and closed
_FAREWELL = 1.0  # seconds in which clients with an open connection can still send what they were about to send
_PATIENCE = 60  # seconds until requests that are not answered by then are given up
_IDLE = 60  # seconds until a connection without requests is closed


class _Uvicorn(uvicorn.Server):
    """Tells when it answers, and ends without losing a request."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes a connection only after an answer that says so, or once it was idle: a request may be on its way."""
        for server in self.servers:
            server.close()
        self.server_state.default_headers.append((b"connection", b"close"))
        loop = asyncio.get_running_loop()
        end = loop.time() + _FAREWELL
        while self.server_state.connections and loop.time() < end:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)


class Server:
    """Serves an ASGI app on `host` and `port` in a thread of its own. Port 0: a free one.

    Raises InputError if it cannot listen there.
    """

    def __init__(self, host: str, port: int) -> None:
        self._socket = _listen("127.0.0.1" if host == "localhost" else host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        self._uvicorn: _Uvicorn | None = None
        self._is_ending = False

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def names(self) -> set[str]:
        """The Host headers by which this machine itself names the server."""
        hosts = {"127.0.0.1", "localhost", "[::1]"}
        with_port = {f"{host}:{self.port}" for host in hosts}
        return {self.netloc} | with_port | (hosts if self.port == 80 else set())

    def start(self, app: ASGIApp) -> None:
        """Returns once the server answers."""
        config = uvicorn.Config(
            app,
            access_log=False,
            lifespan="off",
            limit_concurrency=_CONNECTIONS,
            log_config=None,
            log_level="error",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_PATIENCE,
            timeout_keep_alive=_IDLE,
            ws="none",
        )
        self._uvicorn = _Uvicorn(config)
        self._uvicorn.should_exit = self._is_ending
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._thread.start()
        self._uvicorn.answers.wait()
        if not self._uvicorn.started:
            raise RuntimeError("the server could not start; its log says why")

    def stop(self, *, at_once: bool = False) -> None:
        """Asks the server to end; `wait` returns then. `at_once`: without the answers that are still open."""
        self._is_ending = True
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
            self._uvicorn.force_exit |= at_once

    def stop_on_signals(self) -> None:
        """Ends the server on SIGTERM and Ctrl-C, from now on; at once on a second Ctrl-C. For the main thread."""
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, lambda *_: self.stop(at_once=self._is_ending))

    def wait(self) -> None:
        """Waits until the server has ended."""
        self._thread.join()

    def _run(self) -> None:
        assert self._uvicorn is not None
        try:
            with quiet():
                self._uvicorn.run(sockets=[self._socket])
        finally:
            self._uvicorn.answers.set()


def _listen(host: str, port: int) -> socket.socket:
    """Returns a socket that has the address; nothing is accepted yet."""
    if not 0 <= port <= 65_535:
        raise InputError("--port", port, "is not a port", "give one from 1 to 65535, or 0 for any that is free")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError("--host", host, f"is no address: {error}", "give an address of this machine") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        listener.close()
        remedy = "give another port, or 0 for any that is free; and an address of this machine"
        raise InputError("--port", port, f"cannot listen on {host}: {error}", remedy) from error
    return listener
