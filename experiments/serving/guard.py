"""Who may ask. On this machine: whoever calls the server by its own name. From others: whoever has the token."""

import hmac
import ipaddress
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from experiments.serving.replies import refusal
from lightning_modules import InputError

VARIABLE = "WORKBENCH_TOKEN"
_SHORTEST = 16  # characters
_OPEN = frozenset({"/", "/ping", "/health", "/favicon.ico"})  # they tell nothing about the model


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: Path | None) -> str | None:
    """Returns the token in a file, or in WORKBENCH_TOKEN, if there is one. Raises InputError if it cannot be one."""
    field, value = ("--token-file", str(file)) if file is not None else (VARIABLE, "***")
    remedy = f"to write one: {_new_token(str(file or 'FILE'))}"
    if file is None:
        token = os.environ.get(VARIABLE, "")
        if not token:
            return None
    else:
        try:
            token = file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not plain text"
            raise InputError(field, value, f"the token cannot be read: {reason}", remedy) from error
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        message = f"the token must have {_SHORTEST} or more characters, without spaces and accents"
        raise InputError(field, value, message, remedy)
    return token


def require_token(host: str, token: str | None) -> None:
    """Raises InputError if others can reach this host, and there is no token."""
    if token is None and not is_loopback(host):
        remedy = f"add --token-file FILE, or set {VARIABLE}; to write one: {_new_token('FILE')}"
        raise InputError("--host", host, "beyond this machine, a model is served only to those with a token", remedy)


def _new_token(file: str) -> str:
    return f'python -c "import secrets; print(secrets.token_urlsafe())" > {shlex.quote(file)}'


class Guard:
    """An ASGI app that passes on what may be asked, and refuses the rest.

    `hosts`: what the Host header may be; None if any. A page of another site, whose name was made to lead here (DNS
    rebinding), is refused by it. `token`: what everybody must send as `Authorization: Bearer TOKEN`; None if nobody.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None, token: str | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(host.encode() for host in hosts)
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named: list[bytes] = []
        origin = given = b""
        for name, value in scope["headers"]:
            if name == b"host":
                named.append(value.lower())
            elif name == b"origin":
                origin = value.lower()
            elif name == b"authorization":
                given = value
        if self._hosts is not None and not (len(named) == 1 and named[0] in self._hosts):
            reply = refusal(403, "The Host header does not name this server.")
        elif origin and origin.partition(b"://")[2] not in named:
            reply = refusal(403, "The request comes from a page of another site.")
        elif scope["path"] not in _OPEN and not self._is_allowed(given):
            reply = refusal(401, "The request needs the header Authorization: Bearer TOKEN, with this server's token.")
        else:
            await self._app(scope, receive, send)
            return
        await reply(scope, receive, send)

    def _is_allowed(self, authorization: bytes) -> bool:
        if self._token is None:
            return True
        scheme, _, given = authorization.partition(b" ")
        return hmac.compare_digest(given, self._token) and scheme.lower() == b"bearer"
