"""Which buried jobs are meant: the filters of ``rrqd dlq``, and the walk that applies them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

import click

from rrqd.model.checks import MAX_SECONDS
from rrqd.model.job import Job, short_queue_name
from rrqd.store import Store

Command = TypeVar("Command", bound=Callable[..., Any])

dlq_option = click.option("--dlq-name", metavar="NAME", help="Left out: the default dead-letter queue.")
home_option = click.option("--queue", metavar="NAME", help="Left out: each job's own queue.")
delay_option = click.option(
    "--delay", type=click.FloatRange(0, MAX_SECONDS), default=0.0, metavar="SECONDS",
    help="Not before so many seconds from now.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """All given filters must hold; ``limit`` counts from the oldest."""

    everything: bool = False
    job_ids: tuple[str, ...] = ()
    function: str | None = None
    queue: str | None = None
    error: str | None = None
    limit: int | None = None

    @property
    def filters(self) -> bool:
        """Whether anything is left out."""
        return bool(self.job_ids or self.function or self.queue or self.error)

    def wants(self, job: Job) -> bool:
        """Whether the job passes."""
        return (
            (not self.job_ids or job.id in self.job_ids)
            and (not self.function or job.function == self.function)
            and (not self.queue or job.queue == self.queue)
            and (not self.error or self.error in (job.last_error or ""))
        )

    def must_say_which(self) -> None:
        """Everything is moved only if that was said. Raises a usage error."""
        if not (self.everything or self.filters):
            raise click.UsageError("say which: --job-id, --function, --queue, --error, or --all for every one")


def choice_options(command: Command) -> Command:
    """The filters, passed to the command as ``choice``."""

    @wraps(command)
    def with_choice(
        *args: Any,
        everything: bool,
        job_ids: tuple[str, ...],
        function: str | None,
        queue: str | None,
        error: str | None,
        limit: int | None,
        **others: Any,
    ) -> Any:
        home = short_queue_name(queue) if queue else None
        return command(*args, choice=Choice(everything, job_ids, function, home, error, limit), **others)

    for option in (
        click.option("--limit", type=click.IntRange(1), metavar="N", help="At most this many, oldest first."),
        click.option("--error", metavar="TEXT", help="Jobs whose last error contains this."),
        click.option("--queue", metavar="NAME", help="Jobs that came from this queue."),
        click.option("--function", metavar="NAME", help="Jobs of this function."),
        click.option("--job-id", "job_ids", multiple=True, metavar="ID", help="This job; may be given many times."),
        click.option("--all", "everything", is_flag=True, help="Every buried job. Needed when there is no filter."),
    ):
        with_choice = option(with_choice)
    return with_choice  # type: ignore[return-value]


@dataclass(slots=True)
class Found:
    """What a walk through a dead-letter queue came to: every id it met, and those that were meant, oldest first."""

    seen: set[str] = field(default_factory=set)
    matched: list[str] = field(default_factory=list)


async def choose(store: Store, name: str | None, choice: Choice, *, with_expired: bool = False) -> Found:
    """Walk from the oldest entry until enough is found. Entries whose job has expired count only when asked for."""
    found = Found()
    named = set(choice.job_ids)
    async for entry in store.dlq_from_oldest(name):
        job_id = entry.id if isinstance(entry, Job) else entry
        if isinstance(entry, Job) or with_expired:
            found.seen.add(job_id)
        meant = choice.wants(entry) if isinstance(entry, Job) else with_expired
        if meant and len(found.matched) != choice.limit:
            found.matched.append(job_id)
        if len(found.matched) == choice.limit and named <= found.seen:
            break
    return found
