"""A command's way to the store: the right server for the configuration, opened once, closed at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import click

from rrqd.cli.invocation import Invocation
from rrqd.store import Store, policy_of
from rrqd.store.connection import Endpoint

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

#: Long enough for a slow network, short enough for a person.
TIMEOUT_SECONDS = 5.0


def dsn_option(command: Command) -> Command:
    """``--dsn``, which replaces the configuration's."""
    return click.option(
        "--dsn", metavar="DSN", callback=_check_dsn, help="The server to ask, instead of the configuration's."
    )(command)


def _check_dsn(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            Endpoint.parse(value)
        except ValueError as fault:
            raise click.BadParameter(str(fault), param_hint="--dsn") from None
    return value


def dsn_of(invocation: Invocation, dsn: str | None) -> str:
    """The server that clients of this configuration use."""
    from rrqd.config.loader import client_dsn

    return dsn or client_dsn(invocation.load())


@asynccontextmanager
async def open_store(invocation: Invocation, dsn: str | None) -> AsyncIterator[Store]:
    """A connected store. Raises StoreUnavailable, which ``main`` turns into exit code 69."""
    policy = policy_of(invocation.load().settings)
    store = await Store.open(dsn_of(invocation, dsn), policy, client_name="rrqd:cli", timeout_seconds=TIMEOUT_SECONDS)
    try:
        yield store
    finally:
        await store.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    return asyncio.run(work)
