"""10,000 requests from 32 clients, one in a hundred malformed: every answer is right, and memory stays flat.

`pytest -m soak`. SERVING_REQUESTS sets another number.
"""

import json
import os
import statistics
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.experiments.serving.servers import as_json, ask_many, said, serving

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

REQUESTS = int(os.environ.get("SERVING_REQUESTS", "10000"))
MALFORMED = (b"{", b'{"inputs": [[[1, 2], [3]]]}', b'{"inputs": ["?"]}', b'{"inputs": [[[256]]]}', b"[" * 50_000)


def test_ten_thousand_requests_of_thirty_two_clients(
    digits_store: Path, images: np.ndarray, first_folder: Path
) -> None:
    labels = said(first_folder).tolist()
    good = [as_json(image[np.newaxis]) for image in images]
    bodies = [MALFORMED[n // 100 % len(MALFORMED)] if n % 100 == 50 else good[n % len(good)] for n in range(REQUESTS)]
    with serving(digits_store, "first") as server:
        process = psutil.Process(server.process.pid)
        ask_many(server.url, good + list(MALFORMED))  # what the first requests need stays
        memory: list[int] = []
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(0.1):
                memory.append(process.memory_info().rss)

        watching = threading.Thread(target=watch)
        watching.start()
        start = time.perf_counter()
        replies = ask_many(server.url, bodies)
        seconds = time.perf_counter() - start
        is_over.set()
        watching.join()
    wrong = [
        (n, status)
        for n, (status, document) in enumerate(replies)
        if (400 <= status < 500) != (n % 100 == 50)
        or (n % 100 != 50 and document["predictions"]["label"] != [labels[n % len(good)]])
    ]
    assert wrong == []
    part = max(len(memory) // 5, 1)
    begun, ended = statistics.mean(memory[:part]), statistics.mean(memory[-part:])
    figures = {"seconds": seconds, "begun_mb": begun / 2**20, "ended_mb": ended / 2**20, "samples": len(memory)}
    print(json.dumps(figures))
    assert ended <= 1.05 * begun
