"""The web process: uvicorn on the sockets the master bound. Disposable: whatever happens here, jobs run on."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from rrqd.boot import Message, WebBoot
from rrqd.config.given import settings_from_json
from rrqd.web.access import Access
from rrqd.web.app import both, build_app
from rrqd.web.patience import PatientProtocol
from rrqd.web.sight import Eyes

if TYPE_CHECKING:
    from rrqd.config.settings import Settings

LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]
STOP_SECONDS = 2


class _Server(uvicorn.Server):
    """uvicorn without a hand on the process's signals: they are the master's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_web(boot: WebBoot) -> int:
    """Serve until the master says so, or is gone. Answers the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(boot))


async def _serve(boot: WebBoot) -> int:
    loop = asyncio.get_running_loop()
    # What strangers send is no news; a scanner must not fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    eyes = Eyes(boot)
    hosts = hosts_of(boot.settings, boot.listen_socks)
    access = Access(boot.settings.rrqd.web, is_local=all(_is_loopback(one) for one in boot.listen_socks))
    api, pages = both(eyes, access) if boot.settings.rrqd.web.dashboard else (None, None)
    server = _Server(
        uvicorn.Config(
            build_app(eyes, hosts, api, pages),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            http=PatientProtocol,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )

    def leave() -> None:
        server.should_exit = True
        if api is not None:
            api.leaving.set()

    def told(message: Message) -> None:
        match message["type"]:
            case "state":
                eyes.hear(message)
            case "reload":
                eyes.settings = settings_from_json(message["settings"])
            case "leave" | "drain":
                leave()
            case "dump":
                from rrqd import stacks

                boot.control.send({"type": "dump", "threads": stacks.threads(), "tasks": stacks.tasks(loop)})

    boot.control.attach(loop, told, leave)
    loop.call_soon(boot.control.send, {"type": "ready"})
    await server.serve(sockets=boot.listen_socks)
    await eyes.close()
    return 0


def _is_loopback(sock: socket.socket) -> bool:
    return sock.family == socket.AF_UNIX or ipaddress.ip_address(sock.getsockname()[0]).is_loopback


def hosts_of(settings: Settings, socks: Sequence[socket.socket] = ()) -> list[str]:
    """Host names that requests may carry: loopback's, the configured one, and the addresses that are listened on (a
    socket of systemd's may be elsewhere than the file says). A wildcard address allows any: []."""
    bound = {sock.getsockname()[0] for sock in socks}
    hosts = {settings.rrqd.http.rpartition(":")[0].lower(), *(f"[{one}]" if ":" in one else one for one in bound)}
    return [] if hosts & {"0.0.0.0", "[::]", ""} else sorted({*LOOPBACK, *hosts})
