"""Python processes that start with the libraries already imported, because those imports take most of a short command.

Each process is forked from a server and is like a new one in all else: it has its own arguments, folder, environment,
import path and standard streams, and imports the project's code itself. It has no project module from the server.
"""

import gc
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

_LIBRARIES = (
    "alembic.command",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna",
    "pydantic",
    "pytorch_lightning",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.model_selection",
    "sklearn.preprocessing",
    "torch.export",
)
_LONGEST_MESSAGE = 10_000_000  # bytes
_ONE_SERVER = Lock()  # else two threads could each start one
_NUMBER = 8  # bytes of a process id or an exit code on the wire


class WarmPython:
    """A process that runs `python *words`, where `words` begin with `-c` or `-m`; it is used like subprocess.Popen."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        cwd: Path | str = ".",
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        self.args = [sys.executable, *words]
        self.returncode: int | None = None
        asked = {"words": list(words), "cwd": str(Path(cwd).resolve()), "env": dict(os.environ if env is None else env)}
        (self.stdin, child_in), (self.stdout, child_out), (self.stderr, child_err) = (
            _stream(given, number) for number, given in enumerate((stdin, stdout, stderr))
        )
        self._numbers, numbers = os.pipe()
        theirs = [child_in, child_out, child_err, numbers]
        with _ONE_SERVER:
            socket.send_fds(_server(), [json.dumps(asked).encode()], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        self.pid = self._read_number()

    def _read_number(self) -> int:
        return int.from_bytes(os.read(self._numbers, _NUMBER), "big", signed=True)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._numbers], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._numbers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = self._read_number()
            os.close(self._numbers)
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """Returns all output and all errors once the process has ended."""
        if self.stdin is not None:
            self.stdin.close()
        with ThreadPoolExecutor() as threads:
            read = list(threads.map(_read, (self.stdout, self.stderr)))
        self.wait()
        self._close()
        return read[0], read[1]

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "WarmPython":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._close()

    def _close(self) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()


def start_warm(command: Sequence[str], *, text: bool, **options: Any) -> WarmPython:
    """Stands in for `subprocess.Popen`, for text and today's Python."""
    assert (command[0], text) == (sys.executable, True)
    return WarmPython(command[1:], **options)


def _read(stream: Any) -> str:
    return "" if stream is None or stream.closed else str(stream.read())


def _stream(given: int | None, number: int) -> tuple[Any, int]:
    """Returns our end of a standard stream as a text file, if there is one, and the process's end."""
    if given == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_RDWR)
    if given != subprocess.PIPE:
        return None, os.dup(number if given is None else given)
    readable, writable = os.pipe()
    return (os.fdopen(writable, "w"), readable) if number == 0 else (os.fdopen(readable), writable)


@cache
def _server() -> socket.socket:
    """Starts this process's server, which ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST_MESSAGE)
    command = [sys.executable, __file__, str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
    process.returncode = 0  # it is never waited for
    theirs.close()
    return ours


def _serve(requests: socket.socket) -> list[str]:
    """Forks a process for each request. Returns the words to run in each of them; in the server itself, never."""
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is not None:  # a process has ended
                pid, numbers = key.data
                _write_number(numbers, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                selector.unregister(key.fd)
                for descriptor in (key.fd, numbers):
                    os.close(descriptor)
                continue
            message, descriptors, *_ = socket.recv_fds(requests, _LONGEST_MESSAGE, 4)
            if not message:
                os._exit(0)
            *streams, numbers = descriptors
            pid = os.fork()
            if pid == 0:
                kept = [other.data[1] for other in selector.get_map().values() if other.data is not None]
                selector.close()
                requests.close()
                for descriptor in (*kept, numbers):
                    os.close(descriptor)
                return _become(json.loads(message), streams)
            for descriptor in streams:
                os.close(descriptor)
            _write_number(numbers, pid)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, numbers))


def _write_number(descriptor: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody waits for this process
        os.write(descriptor, number.to_bytes(_NUMBER, "big", signed=True))


def _become(request: dict[str, Any], streams: Sequence[int]) -> list[str]:
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    installed = [entry for entry in sys.path[1:] if entry not in _entries(_OWN_PYTHONPATH)]
    first = "" if request["words"][0] == "-c" else request["cwd"]
    sys.path[:] = [first, *_entries(request["env"].get("PYTHONPATH", "")), *installed]
    words: list[str] = request["words"]
    return words


def _entries(path: str) -> list[str]:
    return [str(Path(entry).absolute()) for entry in path.split(os.pathsep) if entry]


if __name__ == "__main__":
    _OWN_PYTHONPATH = os.environ.get("PYTHONPATH", "")
    gc.disable()
    for library in _LIBRARIES:
        import_module(library)
    gc.freeze()
    flag, what, *rest = _serve(socket.socket(fileno=int(sys.argv[1])))
    gc.enable()
    if flag == "-m":
        sys.argv[1:] = rest
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = ["-c", *rest]
        del __file__
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
