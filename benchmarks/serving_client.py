"""Clients that each ask again once they have their answer; prints the time of all, p50 and p99 as JSON.

One process and bare sockets, so that most of the machine is left to the server: PORT IMAGES CLIENTS REQUESTS json|png.
"""

import asyncio
import io
import json
import sys
import time
from itertools import count

import numpy as np


def bodies(path: str, kind: str) -> list[bytes]:
    """One image each."""
    images = np.load(path)
    if kind == "json":
        return [json.dumps({"inputs": [image.tolist()]}).encode() for image in images]
    from PIL import Image

    files = [io.BytesIO() for _ in images]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file, "PNG")
    return [file.getvalue() for file in files]


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: "Load") -> None:
        self._load, self._buffer = load, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            return
        assert head.startswith(b"HTTP/1.1 200"), self._buffer
        self._buffer = b""
        self._load.seconds.append(time.perf_counter() - self._start)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._load.done.done() and len(self._load.seconds) < self._load.total:
            self._load.done.set_exception(error or ConnectionError("the server has closed the connection"))

    def _send(self) -> None:
        number = next(self._load.numbers)
        if number < self._load.total:
            self._start = time.perf_counter()
            self._transport.write(self._load.requests[number % len(self._load.requests)])
        elif len(self._load.seconds) == self._load.total and not self._load.done.done():
            self._load.done.set_result(None)


class Load:
    """What all clients share."""

    def __init__(self, requests: list[bytes], total: int) -> None:
        self.requests, self.total = requests, total
        self.numbers = count()
        self.seconds: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


async def main(port: str, path: str, clients: str, requests: str, kind: str) -> None:
    content_type = "application/json" if kind == "json" else "image/png"
    head = f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\nContent-Length: "
    load = Load([f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies(path, kind)], int(requests))
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    for _ in range(int(clients)):
        await loop.create_connection(lambda: Client(load), "127.0.0.1", int(port))
    await load.done
    seconds = time.perf_counter() - start
    p50, p99 = np.quantile(load.seconds, (0.5, 0.99)) * 1000
    print(json.dumps({"seconds": seconds, "per_second": load.total / seconds, "p50_ms": p50, "p99_ms": p99}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
