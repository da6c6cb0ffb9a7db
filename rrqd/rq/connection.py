"""Where jobs lie, for plain code: a server of one's own, or the embedded one of a home.

Rule 1: nothing is connected or started before the first call. A module that makes a Queue while it is imported costs
        nothing, and can be imported by a daemon's mold.
Rule 2: one Connection per place and process; queues and jobs share it.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from rrqd.supervisor.embedded import EmbeddedError
from rrqd.supervisor.home import Home, Stay, default_home, enter, enter_throw_away

if TYPE_CHECKING:
    from rrqd.client import SyncRRQClient
    from rrqd.model.job import NewJob
    from rrqd.store import Store
    from rrqd.store.short import ShortWay

T = TypeVar("T")

DSN_VARIABLE = "RRQ_REDIS_DSN"
KEY_VARIABLE = "RRQD_SIGNING_KEY"
MEMORY = ":memory:"


class NoServer(RuntimeError):
    """There is no server to be had; the text says what to do."""


class Connection:
    """One place where jobs lie. Safe for many threads, and usable after a fork.

    ``dsn`` of None: the embedded server of ``home``, or of a throw-away one (``memory``). ``signing_key``: see
    ``serializer="pickle"``.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        home: Home | None = None,
        memory: bool = False,
        namespace: str = "",
        signing_key: str | bytes | None = None,
    ) -> None:
        self._dsn = dsn
        self._home = home
        self._memory = memory
        self.namespace = namespace
        self._key = signing_key.encode() if isinstance(signing_key, str) else signing_key
        self._lock = threading.Lock()
        self._stay: Stay | None = None
        self._client: SyncRRQClient | None = None
        self._short: ShortWay | None = None

    def __repr__(self) -> str:
        where = "memory" if self._memory else (self._dsn and "its own server") or str(self._home and self._home.folder)
        return f"<rrqd.rq.Connection {where}>"

    @property
    def dsn(self) -> str:
        """The server's address; starts the embedded one if it is not there."""
        return self._dsn or self._enter().home.dsn

    @property
    def client(self) -> SyncRRQClient:
        """A client of this place."""
        if self._stay is not None:
            self._stay.guard()
        return self._client or self._make_client()

    def _make_client(self) -> SyncRRQClient:
        """The embedded server starts while the client is loaded: together they are most of a cold start."""
        starting = threading.Thread(target=self._try_to_enter) if self._dsn is None and self._stay is None else None
        if starting is not None:
            starting.start()
        from rrqd.client import SyncRRQClient

        if starting is not None:
            starting.join()
        dsn = self.dsn  # raises what kept the server from starting
        with self._lock:
            if self._client is None:
                self._client = SyncRRQClient(config={"redis_dsn": dsn, "namespace": self.namespace})
            return self._client

    def _short_way(self, client: SyncRRQClient) -> ShortWay:
        if self._short is None:
            from rrqd.store.short import ShortWay

            asking = client.for_loops
            self._short = ShortWay(asking._endpoint, asking._policy)
        return self._short

    def _try_to_enter(self) -> None:
        try:
            self._enter()
        except NoServer:
            pass  # whoever waits tries again, and tells

    def enqueue(self, wishes: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Write jobs down, the short way if it is open; each is found by its queue's registries when it has ended.
        Raises what ``SyncRRQClient.enqueue_many`` does."""
        from msgspec.structs import replace

        self.write([replace(job, listed=job.queue) for job in self.client.for_loops._read(wishes)])

    def write(self, jobs: Sequence[NewJob]) -> None:
        """The same, of jobs that have been read from their options already."""
        client = self.client
        short = self._short_way(client)
        if not short.suits(jobs):
            client._run(client.for_loops._write(jobs), [job.id for job in jobs])
            return
        from rrqd.exc import EnqueueFailed, StoreError
        from rrqd.store.short import LostReply

        try:
            if short.enqueue(jobs) is None:
                client._run(client.for_loops._write(jobs), [job.id for job in jobs])
        except LostReply:
            self.ask(lambda store: store.enqueue_many(jobs, repeated=True))
        except StoreError as fault:
            raise EnqueueFailed(str(fault), [job.id for job in jobs]) from fault

    def ask(self, call: Callable[[Store], Awaitable[T]]) -> T:
        """Ask the store; waits for the answer. Raises EnqueueFailed when there is none."""
        client = self.client
        return client._run(client._client._ask(call))

    def ping(self) -> bool:
        """Whether the server answers."""
        self.ask(lambda store: store.server_info())
        return True

    @property
    def signing_key(self) -> bytes:
        """What pickled arguments are signed with: the one given, ``RRQD_SIGNING_KEY``, or a file of the home."""
        if self._key is None:
            named = os.environ.get(KEY_VARIABLE)
            if named:
                self._key = named.encode()
            elif self._dsn is None:
                self._key = _key_file(self._enter().home.folder / "signing.key")
            else:
                raise NoServer(f'serializer="pickle" needs a key: set {KEY_VARIABLE}, the same for all who take part')
        return self._key

    def close(self) -> None:
        """Drop the connection, and the use of the embedded server. A later call begins anew."""
        with self._lock:
            client, self._client = self._client, None
            stay, self._stay = self._stay, None
            short, self._short = self._short, None
        if short is not None:
            short.close()
        if client is not None:
            client.close()
        if stay is not None:
            stay.end()

    def _enter(self) -> Stay:
        with self._lock:
            if self._stay is None:
                try:
                    self._stay = enter_throw_away() if self._memory else enter(self._home or default_home())
                except EmbeddedError as fault:
                    raise NoServer(str(fault)) from None
            return self._stay


def _key_file(path: Path) -> bytes:
    """The key in a file, made by whoever needs it first."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    if not path.exists():
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        draft.unlink()
    return path.read_bytes()


_known: dict[str, Connection] = {}
_known_lock = threading.Lock()


def connect(connection: Any = None, *, memory: bool = False) -> Connection:
    """The Connection meant by what a program passes as ``connection=``: nothing, a DSN, one of ours, a redis-py client.

    Nothing: ``RRQ_REDIS_DSN``, else the embedded server of ``RRQD_HOME`` or of the user. Raises ValueError.
    """
    if isinstance(connection, Connection):
        return connection
    dsn = None if memory else _dsn_of(connection)
    if dsn is None and not memory:
        dsn = os.environ.get(DSN_VARIABLE) or None
    home = None if memory or dsn is not None else default_home()
    key = MEMORY if memory else dsn or str(home and home.folder)
    with _known_lock:
        found = _known.get(key)
        if found is None:
            found = _known[key] = Connection(dsn, home=home, memory=memory)
        return found


def _dsn_of(connection: Any) -> str | None:
    if connection is None or isinstance(connection, str):
        return connection
    pool = getattr(connection, "connection_pool", None)
    options = getattr(pool, "connection_kwargs", None)
    if not isinstance(options, dict):
        raise ValueError(
            f"connection must be a DSN (redis://…), a Connection of rrqd.rq or a redis-py client, not {connection!r}"
        )
    login = ""
    if options.get("password"):
        login = f"{quote(options.get('username') or '', safe='')}:{quote(options['password'], safe='')}@"
    db = options.get("db") or 0
    if options.get("path"):
        return f"unix://{login}{quote(options['path'])}?db={db}"
    secure = "SSL" in getattr(getattr(pool, "connection_class", None), "__name__", "")
    scheme = "rediss" if secure else "redis"
    return f"{scheme}://{login}{options.get('host') or 'localhost'}:{options.get('port') or 6379}/{db}"


def close_all() -> None:
    """End all connections of this process; those of throw-away homes too."""
    with _known_lock:
        connections = list(_known.values())
    for one in connections:
        one.close()


_home_pid = os.getpid()


@atexit.register
def _at_exit() -> None:
    if os.getpid() == _home_pid:  # a forked child that ends must not wait for threads it never had
        close_all()
