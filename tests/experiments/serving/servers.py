"""Starts `workbench serve` as a process, and asks it."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

from tests.warm_python import WarmPython

JSON = "application/json"
Reply = tuple[int, dict[str, Any]]  # status and document


@dataclass(frozen=True)
class Serving:
    """A server, and what its command has printed."""

    process: WarmPython
    document: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.document["url"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, body: Any, content_type: str = JSON, **headers: str) -> Reply:
        """Asks for predictions. What is not bytes is written as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body)
        answer = requests.post(
            f"{self.url}/invocations", data=data, headers={"Content-Type": content_type, **headers}, timeout=60
        )
        return answer.status_code, answer.json()

    def refuses(self, status: int, words: str, body: Any, content_type: str = JSON) -> None:
        """Checks that a request is refused with this status and a sentence that has these words."""
        got, answer = self.post(body, content_type)
        assert (got, words in answer["message"]) == (status, True), (got, answer)
        assert answer["message"].endswith(".")


@contextmanager
def serving(store: Path | str, run: str, *options: str, **environment: str) -> Iterator[Serving]:
    """A server on a free port; it is killed if it has not ended by itself."""
    words = ["-m", "workbench", "serve", run, "--store", str(store), "--port", "0", "--json", *options]
    process = WarmPython(words, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "}\n":
                break
        else:
            raise AssertionError(process.communicate()[1])
        yield Serving(process, json.loads("".join(lines)))
    finally:
        process.kill()
        process.communicate()


def ask_many(url: str, bodies: Sequence[bytes], content_type: str = JSON, clients: int = 32) -> list[Reply]:
    """Returns the answer to each body, in order; each client asks again once it has its answer."""
    return asyncio.run(_ask_many(url, bodies, content_type, clients))


async def _ask_many(url: str, bodies: Sequence[bytes], content_type: str, clients: int) -> list[Reply]:
    host, _, port = url.removeprefix("http://").partition(":")
    replies: dict[int, Reply] = {}
    numbers = iter(range(len(bodies)))

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in numbers:
            body = bodies[number]
            head = f"POST /invocations HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {content_type}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length:")[2].split()[0])
            replies[number] = int(answer.split()[1]), json.loads(await reader.readexactly(length))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return [replies[number] for number in range(len(bodies))]


def labels_of(reply: Reply) -> list[Any]:
    status, document = reply
    assert status == 200, document
    return list(document["predictions"]["label"])


def as_json(images: NDArray[Any], form: str = "inputs") -> bytes:
    return json.dumps({form: images.tolist()}).encode()


def said(folder: Path, split: str = "test") -> NDArray[Any]:
    """The labels that a run's predictions.npz has for a split."""
    with np.load(folder / "predictions.npz") as arrays:
        labels: NDArray[Any] = arrays[f"{split}_label"]
    return labels
