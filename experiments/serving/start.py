"""Starts serving the model of a run, or of a sweep's champion."""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.serving.app import Service
from experiments.serving.bodies import Limits
from experiments.serving.guard import Guard, is_loopback, read_token, require_token
from experiments.serving.loaded import load_model
from experiments.serving.server import Server
from experiments.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is served. `most_images`: of a batch; `wait`: seconds that a request waits for others at most."""

    host: str = "127.0.0.1"
    port: int = 5001
    token_file: Path | None = None
    wait: float = 0.002
    most_images: int = 64
    open_requests: int = Limits.open_requests
    body_bytes: int = Limits.body_bytes
    threads: int = 1


class Served:
    """A model that is ready to answer requests at an address."""

    def __init__(self, service: Service, server: Server, token: str | None) -> None:
        self._service, self._server, self._token = service, server, token

    def as_dict(self) -> dict[str, Any]:
        """Returns where it answers, and whose model it is."""
        url = f"http://{self._server.netloc}"
        return {"url": url, "needs_token": self._token is not None, **self._service.about()}

    def start(self) -> None:
        """Returns once it answers. From then on, SIGTERM and Ctrl-C end it, after what was asked is answered."""
        hosts = self._server.names if is_loopback(self._server.host) else None
        self._server.stop_on_signals()
        self._server.start(Guard(self._service.app, hosts, self._token))

    def wait(self) -> None:
        """Returns once it has ended."""
        self._server.wait()
        self._service.close()


def prepare(store: Store, selector: str, options: Options) -> Served:
    """Loads the model that `selector` names, and takes the address. Its code runs: see tracking/trust.py.

    Raises InputError if the run has no model, if the address cannot be used, or if others could use it without a token.
    """
    token = read_token(options.token_file)
    require_token(options.host, token)
    server = Server(options.host, options.port)  # before the model is loaded, which takes seconds
    model = load_model(store, selector)
    limits = Limits(
        open_requests=options.open_requests,
        body_bytes=options.body_bytes,
        open_bytes=max(Limits.open_bytes, options.body_bytes),
    )
    torch.set_num_threads(options.threads)
    model.use_channels_last()
    service = Service(model, limits, most_images=options.most_images, wait=options.wait)
    service.warm_up()
    gc.freeze()  # what is loaded stays: looking through it again and again would delay requests
    return Served(service, server, token)
