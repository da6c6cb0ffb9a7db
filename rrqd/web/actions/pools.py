"""Actions on the processes of this machine: the master carries them out."""

from __future__ import annotations

from typing import Any

from rrqd.web.actions.shape import Field, Hands, Words, action

POOL = {"pool": Field("text", "the pool's name")}


@action("pool.pause", "pool", "The pool takes no more jobs.", **POOL)
async def pause_pool(hands: Hands, words: Words) -> dict[str, Any]:
    """Let a pool of this machine take no more jobs."""
    answer = await hands.tell_master(command="pause", pool=words["pool"])
    return {"count": 1, "paused": answer["paused"], "unheard": answer.get("unheard", [])}


@action("pool.resume", "pool", "The pool takes jobs again.", **POOL)
async def resume_pool(hands: Hands, words: Words) -> dict[str, Any]:
    """Let a pool of this machine take jobs again."""
    return {"count": 1, "paused": (await hands.tell_master(command="resume", pool=words["pool"]))["paused"]}


@action(
    "pool.scale",
    "pool",
    "The pool has its new size; workers come and go.",
    **POOL,
    processes=Field("whole", "how many worker processes", least=1),
)
async def scale(hands: Hands, words: Words) -> dict[str, Any]:
    """Change the number of a pool's workers, until the daemon ends or a reload brings another number."""
    answer = await hands.tell_master(command="scale", pool=words["pool"], processes=words["processes"])
    return {"count": abs(answer["processes"] - answer["before"]), "processes": answer["processes"]}


@action(
    "pool.restart",
    "pool",
    "Workers that are replaced by fresh ones: {count}.",
    **POOL,
    slot=Field("whole", "only this worker", needed=False, least=0),
)
async def restart(hands: Hands, words: Words) -> dict[str, Any]:
    """Replace a pool's workers, or one of them, by fresh ones of the same code; running jobs are finished."""
    answer = await hands.tell_master(command="restart", pool=words["pool"], slot=words.get("slot"))
    return {"count": len(answer["workers"]), "workers": answer["workers"]}


@action("daemon.dump", "", "What every thread and task is doing stands in the log.")
async def dump(hands: Hands, _words: Words) -> dict[str, Any]:
    """Have all processes of this machine say what they are doing: into the log, and into the answer."""
    entries = (await hands.tell_master(command="dump"))["entries"]
    return {"count": len(entries), "entries": entries}
