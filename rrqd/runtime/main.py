"""A worker process, from the moment the mold has forked it to its exit code."""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
import uvloop

from rrqd import tracing
from rrqd.boot import Message, WorkerBoot
from rrqd.exc import RRQError
from rrqd.handlers import LoadedHandlers, WorkerDoor
from rrqd.runtime.debugger import Debugger, own_socket_path, socket_path
from rrqd.runtime.insight import Insight
from rrqd.runtime.worker import Worker
from rrqd.store import Store, policy_of
from rrqd.store.connection import Endpoint

#: What a tracer gets to send its last spans, when a worker ends.
FLUSH_SECONDS = 2.0


def run_worker(boot: WorkerBoot) -> int:
    """Run one worker until it has left. Answers the exit code: 0 for an end that was wanted."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_default_executor(_Unwaited(thread_name_prefix="to-thread"))
        return runner.run(_work(boot))


class _Unwaited(ThreadPoolExecutor):
    """For ``asyncio.to_thread`` in handlers. A call that is stuck in it does not keep a worker that leaves."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


async def _work(boot: WorkerBoot) -> int:
    loop = asyncio.get_running_loop()
    settings, control = boot.settings, boot.control
    stop_seconds = settings.rrqd.stop_timeout_seconds
    loaded: LoadedHandlers = boot.registry
    handlers = loaded.behind(
        WorkerDoor(
            settings, boot.pool, settings.rrqd.pools[boot.pool], boot.slot, False,
            give_up=lambda why: worker.give_up(why),
            quieten=lambda flag: worker.quieten(flag, whose_wish="handlers"),
        )
    )  # fmt: skip
    store = Store(
        Endpoint.parse(settings.rrq.redis_dsn),
        policy_of(settings),
        client_name=f"rrqd:worker:{boot.worker_id}",
        channel=boot.worker_id,
        on_message=lambda said: worker.hear(said),
    )
    worker = Worker(
        settings=settings,
        pool_name=boot.pool,
        pool=settings.rrqd.pools[boot.pool],
        worker_id=boot.worker_id,
        node_id=boot.node_id,
        handlers=handlers,
        store=store,
        page=boot.page,
        wake_fd=boot.wake_fd,
        on_ready=lambda: _say(boot, {"type": "ready"}),
        on_overdue=lambda job_id, token: _say(boot, {"type": "overdue", "job_id": job_id, "token": token}),
        sandbox_root=boot.state_dir / "sandboxes",
    )

    def told(message: Message) -> None:
        if message["type"] == "drain":
            worker.drain(float(message["deadline_seconds"]))
        elif message["type"] == "quiet":
            worker.quieten(bool(message["on"]), lambda: _say(boot, {"type": "quiet"}))
        elif message["type"] == "dump":
            _say(boot, _dump(worker, loop))

    def orphaned() -> None:
        """The master is dead: finish what runs and leave, and if the loop hangs, leave all the same."""
        worker.log.warning("worker.orphaned", what_now=f"draining for at most {stop_seconds:g} s")
        if worker.watchdog is not None:
            worker.watchdog.leave_by(stop_seconds + 5.0)
        worker.drain(stop_seconds)

    control.attach(loop, told, orphaned)
    loop.add_signal_handler(signal.SIGTERM, worker.drain, stop_seconds)
    insight = Insight(worker, loop, f"{boot.pool}/{boot.slot} g{boot.generation}")
    doors = socket_path(boot.state_dir, boot.pool, boot.slot), own_socket_path(boot.state_dir, boot.worker_id)
    debugger = Debugger(doors, insight.names, insight.banner)
    debugger.install()
    try:
        reason = await worker.run()
    except RRQError as fault:
        structlog.get_logger().error("worker.failed", error=str(fault))
        _say(boot, {"type": "bye", "reason": f"boot-error: {fault}"})
        return 1
    except Exception as fault:
        structlog.get_logger().exception("worker.failed", error=str(fault))
        _say(boot, {"type": "bye", "reason": f"boot-error: {type(fault).__name__}: {fault}"})
        return 1
    finally:
        debugger.close()
        await _flush_traces()
        if handlers.abandon is not None:
            handlers.abandon()
    if worker.broken:
        _say(boot, {"type": "bye", "reason": f"boot-error: {worker.broken}"})
        await store.close()
        return 1
    _say(boot, {"type": "bye", "reason": reason})
    await store.close()
    return 0


async def _flush_traces() -> None:
    """What a tracer has collected is sent; a receiver that does not answer holds nobody up."""
    if tracing.watcher is not None:
        flushing = asyncio.create_task(asyncio.to_thread(tracing.watcher.flush, FLUSH_SECONDS))
        await asyncio.wait({flushing}, timeout=FLUSH_SECONDS)


def _say(boot: WorkerBoot, message: Message) -> None:
    boot.control.send(message)


def _dump(worker: Worker, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    from rrqd import stacks  # only when asked: the doorstep's tool, not the runtime's

    return {"type": "dump", "threads": stacks.threads(), "tasks": stacks.tasks(loop), "running": worker.running()}
