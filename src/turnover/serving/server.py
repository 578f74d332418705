"""The server of the live explorer: one page, one question, on this machine alone unless told otherwise."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from turnover.errors import UserError, reason
from turnover.serving.answers import answer
from turnover.serving.live_page import LivePage
from turnover.serving.pictures import uploaded
from turnover.serving.trained import Trained

HOST, PORT = "127.0.0.1", 8600
LARGEST = 20_000_000  # bytes of an image
_KIND = "application/octet-stream"  # one that other sites' pages may not send here without being asked
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def serve(
    page: LivePage,
    trained: Trained,
    *,
    host: str = HOST,
    port: int | None = None,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until interrupted.

    Args:
        page: of the explorer.
        trained: what new images are asked of.
        host: the address to listen at.
        port: None: 8600, or another that is free.
        browser: open the page, where there is a screen.
        say: called with each line that a user should read.

    Raises:
        UserError: the classes of page and networks differ; the port is taken, or the host is not this machine's; or
            the packages of the extra `audit` are not installed.
    """
    if list(page.classes) != list(trained.classes):
        raise UserError("the page was written for other classes than the networks': write it again")
    try:
        import uvicorn
    except ImportError as error:
        raise UserError(f"to serve the page, install pip install 'turnover[audit]': {reason(error)}") from error
    held = _bound(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{held.getsockname()[1]}/"
    server = uvicorn.Server(
        uvicorn.Config(application(page, trained, host), log_level="warning", limit_concurrency=64, lifespan="off")
    )
    if not is_loopback(host):
        say(f"note: whoever reaches {host} can see the page and ask; there is no password")
    say(f"The explorer: {address} (Ctrl-C ends it)")
    # Without a screen, Python would open a browser for texts in this terminal.
    if browser and (sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        webbrowser.open(address)
    with held, suppress(KeyboardInterrupt):  # the way to end it
        server.run(sockets=[held])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _bound(host: str, port: int | None) -> socket.socket:
    """A socket at the wanted port; where none is wanted at 8600, or at any free one if that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    error: OSError | None = None
    for one in (PORT, 0) if port is None else (port,):
        tried = socket.socket(family)
        try:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, one))
            tried.listen()  # before the address is said: whoever comes early waits
            return tried
        except (OSError, OverflowError) as refused:
            tried.close()
            error = refused if isinstance(refused, OSError) else OSError(str(refused))
    assert error is not None
    raise UserError(f"cannot listen at {host}, port {port or PORT}: {reason(error)}; name others (--host, --port)")


def application(page: LivePage, trained: Trained, host: str = HOST) -> Any:
    """The web application: ``GET /`` is the page, ``POST /ask`` with the bytes of an image asks.

    Args:
        page, trained: see `serve`.
        host: that it listens at. At a loopback address, requests under any other name are refused: so no site can
            reach it by a name of its own that leads here.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Route

    one_at_a_time = asyncio.Lock()  # each has all threads

    async def show(request: Request) -> Response:
        return Response(page.text, media_type="text/html", headers=_HEADERS)

    async def beside(request: Request) -> Response:
        path = page.beside.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "there is no such page")
        return FileResponse(path, headers=_HEADERS)

    async def ask(request: Request) -> Response:
        if request.headers.get("content-type") != _KIND:
            raise HTTPException(415, f"send the bytes of an image as {_KIND}")
        label = _label(request.query_params.get("label"))
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > LARGEST:
                raise HTTPException(413, f"this file is larger than {LARGEST // 1_000_000} MB")
        async with one_at_a_time:
            return JSONResponse(await run_in_threadpool(_asked, trained, bytes(content), label), headers=_HEADERS)

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 400
        text = error.detail if isinstance(error, HTTPException) else str(error)
        return JSONResponse({"error": text}, status, headers=_HEADERS)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    names = [host, "localhost", "127.0.0.1", "::1", "[::1]"] if is_loopback(host) else ["*"]
    return Starlette(
        routes=[
            Route("/", show),
            Route("/ask", ask, methods=["POST"]),
            Route("/{name}", beside),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)],
        exception_handlers={HTTPException: refused, UserError: refused, ClientDisconnect: gone},
    )


def _label(text: str | None) -> int | None:
    """Raises `UserError` where it is no number of a class."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError("label must be the number of a class")
    return int(text)


def _asked(trained: Trained, content: bytes, label: int | None) -> dict[str, Any]:
    pixels, done = uploaded(content, trained.shape)
    return {**answer(trained, pixels, label), "done": done}
