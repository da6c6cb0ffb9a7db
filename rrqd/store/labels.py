"""What is put on jobs: tags, the wish to be told of every move, the group in which they failed, the list in which they
are found when they have ended.

Whether a job has one of them stands in its hash. The indexes (``rrqd:tag:<tag>``, ``rrqd:tracked``,
``rrqd:group:<group>``, ``rrqd:ended:<status> <list>``) only lead there: an entry whose job has gone, or says otherwise,
is dropped by whoever comes across it, and by the steward's retention within ten minutes. So an index can be late, but
it does not drift.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from rrqd.job import JobStatus
from rrqd.model.names import MAX_TAGS
from rrqd.store.base import Base
from rrqd.store.scripts import run

#: Index entries one call may look at: about a millisecond of the server's time.
LOOK_MOST = 500
#: Living entries that a trim passes from the old end before it leaves the rest for later.
LIVING_MOST = 100


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """``ids``: a page, newest first. ``total``: entries of the index, of which a few may have expired lately."""

    ids: list[str]
    total: int


class TooManyTags(ValueError):
    """The job would have more tags than it may have."""


class Labels(Base):
    """Tags and tracking."""

    async def tag(self, job_id: str, tags: Sequence[str]) -> list[str] | None:
        """Add tags; answers all the job has then, ``None`` when there is no such job. Raises TooManyTags."""
        return await self._tag("add", job_id, tags)

    async def untag(self, job_id: str, tags: Sequence[str]) -> list[str] | None:
        """Take tags away; answers those that are left, ``None`` when there is no such job."""
        return await self._tag("remove", job_id, tags)

    async def _tag(self, what: str, job_id: str, tags: Sequence[str]) -> list[str] | None:
        said, now = await run(await self.link(), "tag", self.keys.token, what, job_id, MAX_TAGS, *tags)
        if said == b"unknown":
            return None
        if said == b"full":
            raise TooManyTags(
                f"job {job_id} has {len(now)} tags and cannot get {len(tags)} more; {MAX_TAGS} are allowed"
            )
        return [tag.decode() for tag in now]

    async def tagged(self, tag: str, *, offset: int = 0, limit: int = 25) -> Page:
        """Jobs with a tag."""
        return await self._page("tag", tag, offset, limit)

    async def tracked(self, *, offset: int = 0, limit: int = 25) -> Page:
        """Jobs that are tracked."""
        return await self._page("tracked", "", offset, limit)

    async def failed_in(self, group: str, *, offset: int = 0, limit: int = 25, order: str = "newest") -> Page:
        """Buried jobs of a group of failures, ``newest`` or ``oldest`` first."""
        return await self._page("group", group, offset, limit, order)

    async def ended(
        self, listed: str, status: JobStatus, *, offset: int = 0, limit: int = 25, order: str = "newest"
    ) -> Page:
        """Jobs of a list (``NewJob.listed``) that have ended so, the ``newest`` or the ``oldest`` first."""
        return await self._page("ended", f"{status} {listed}", offset, limit, order)

    async def lists(self) -> list[str]:
        """``<status> <list>`` of all lists in which jobs that have ended are found."""
        link = await self.link()
        return [name.decode() for name in await link.call("SMEMBERS", self.keys.lists)]

    async def _page(self, index: str, name: str, offset: int, limit: int, order: str = "newest") -> Page:
        """As many calls as it takes, each of bounded work."""
        ids: list[str] = []
        while True:
            found, dropped, total = await run(
                await self.link(), "indexed", self.keys.token, index, name, offset + len(ids),
                min(limit - len(ids), LOOK_MOST), LOOK_MOST, order,
            )  # fmt: skip
            ids += [job_id.decode(errors="replace") for job_id in found]
            if len(ids) >= limit or not (dropped or found):
                return Page(ids=ids, total=int(total))

    async def tags(self) -> dict[str, int]:
        """Every tag in use and the number of its jobs, most used first."""
        return await self._counts(self.keys.tags, self.keys.tag)

    async def groups(self) -> dict[str, int]:
        """Every group of failures and the number of its jobs, largest first."""
        return await self._counts(self.keys.groups, self.keys.group)

    async def _counts(self, known: str, index: Callable[[str], str]) -> dict[str, int]:
        link = await self.link()
        names = [name.decode() for name in await link.call("SMEMBERS", known)]
        calls = [link.call("ZCARD", index(name)) for name in names]
        counts = [(name, int(await call)) for name, call in zip(names, calls, strict=True)]
        return dict(sorted(counts, key=lambda one: (-one[1], one[0])))

    async def trim_index(self, index: str, name: str = "") -> int:
        """Drop entries of jobs that have gone from the old end of an index (``tag``, ``group`` or ``ended`` and its
        name, or ``tracked``); answers how many."""
        total = 0
        while True:
            _, dropped, _ = await run(
                await self.link(), "indexed", self.keys.token, index, name, 0, LIVING_MOST, LOOK_MOST, "oldest"
            )
            total += int(dropped)
            if dropped < LOOK_MOST - LIVING_MOST:
                return total

    async def track(self, job_id: str) -> bool | None:
        """Tell of the job's moves from now on; false when it was so already, ``None`` when there is no such job."""
        return await self._track("1", job_id)

    async def untrack(self, job_id: str) -> bool | None:
        """Tell of them no more; false when it was so already, ``None`` when there is no such job."""
        return await self._track("0", job_id)

    async def _track(self, on: str, job_id: str) -> bool | None:
        said = await run(await self.link(), "track", self.keys.token, on, job_id)
        return None if said == -1 else bool(said)
