"""Defects of a worker and its jobs."""

from __future__ import annotations

import json
import signal
from datetime import datetime

from bench.judge.side import Finding, Side


def w01(side: Side) -> Finding:
    """All connections to the server are cut once."""
    with side.worker() as program:
        side.put("nothing", "first")
        side.end("first")
        side.server.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        side.after(1.0)
        side.put("nothing")
        end = side.end(seconds=5.0)
        assert program.process is not None
        code = program.process.poll()
    return Finding(f"{'worker runs on' if code is None else f'worker ends with {code}'}, next job {end}", code is None)


def w02(side: Side) -> Finding:
    """The worker that runs a job is killed, another one is there."""
    with side.worker() as program:
        side.put("nap", params={"seconds": 3.0})
        side.wait("ACTIVE")
        if not side.is_real:  # it has a master, which starts the other one
            side.workers(program)[0].kill()
            end = side.end(seconds=20.0)
        else:
            with side.worker():
                side.workers(program)[0].kill()
                end = side.end(seconds=20.0)
    lock = side.server.redis.ttl("rrq:lock:job:a")
    locked = f", its lock for {lock} s more" if lock > 0 else ""
    return Finding(f"{end} after 20 s{locked}" if end == "ACTIVE" else f"{end} within 20 s", end == "COMPLETED")


def w03(side: Side) -> Finding:
    """A job with job_timeout_seconds = 10^17 between two others."""
    side.put("nothing", "before", at=1)
    side.put("nothing", "poison", at=2, job_timeout_seconds=10**17)
    side.put("nothing", "after", at=3)
    try:
        with side.worker() as program:
            ends = {name: side.end(name, 4.0) for name in ("before", "after")}
            assert program.process is not None
            code = program.process.poll()
    except RuntimeError:  # it ended before it was ready
        ends, code = {name: side.status(name) for name in ("before", "after")}, 0
    state = "worker lives" if code is None else f"worker ends with {code}"
    return Finding(
        f"{state}, neighbours {ends['before']} and {ends['after']}, it {side.status('poison')}",
        code is None and set(ends.values()) == {"COMPLETED"},
    )


def w06(side: Side) -> Finding:
    """A job of max_retries 3 that runs into its timeout."""
    with side.worker():
        side.put("nap", params={"seconds": 60}, job_timeout_seconds=1, max_retries=3)
        side.end()
    made = int(side.job()["current_retries"])
    return Finding(f"FAILED after {made} attempt{'s' * (made != 1)} of 3", made == 3)


def w07(side: Side) -> Finding:
    """Two workers, a cron entry every ten seconds, for 65 s."""
    ledger = side.server.folder / "ledger"
    entry = {"function_name": "ledger", "schedule": "*/10 * * * * *", "params": {"file": str(ledger)}}
    with side.worker(cron_jobs=[entry]), side.worker(cron_jobs=[entry]):
        side.after(65.0)
    redis = side.server.redis
    begun = [redis.hget(key, "start_time") for key in redis.scan_iter("rrq:job:*", count=1000)]
    starts = [datetime.fromisoformat(one.decode()[:26].rstrip("Z")).timestamp() for one in begun if one]
    ticks = {int(start // 10) for start in starts}
    missed = max(ticks) - min(ticks) + 1 - len(ticks)
    late = sum(start % 10 > 2.0 for start in starts)
    doubled = len(starts) - len(ticks)
    text = f"{len(starts)} runs: {doubled} doubles, {late} more than 2 s late, {missed} ticks without one"
    return Finding(text, not (doubled or late or missed))


def w10(side: Side) -> Finding:
    """A handler answers an object()."""
    with side.worker():
        side.put("strange", job_timeout_seconds=3, max_retries=1)
        side.end()
        side.after(0.1)
    job = side.job()
    error = json.loads(job.get("rrqd_error", "{}"))
    said = job.get("last_error", "")
    text = f"{error['type']}: {said}" if "type" in error else said
    return Finding(f"`{text[:90]}`", "timed out" not in said)


def w14(side: Side) -> Finding:
    """Idle for five seconds, then 200 jobs at once."""
    with side.worker(in_flight=32):
        side.after(1.0)
        idle = side.server.load()
        side.after(5.0)
        idle = side.server.load().since(idle)
        for nth in range(200):
            side.put("nothing", f"j{nth}", "parked")
        before = side.server.load()
        side.server.redis.rename("rrq:queue:parked", "rrq:queue:default")
        for nth in range(200):
            side.end(f"j{nth}")
        busy = side.server.load().since(before)
    calls = busy.calls.get("evalsha", 0) / 200
    asked = idle.calls.get("evalsha", 0) / 5
    return Finding(f"{asked:.1f} script calls a second when idle, {calls:.2f} a job", asked < 3 and calls < 1)


def w23(side: Side) -> Finding:
    """A worker is told to stop."""
    with side.worker(worker_health_check_interval_seconds=1.0) as program:
        assert program.process is not None
        redis = side.server.redis
        side.put("nothing")
        side.end()
        side.after(1.5)
        program.process.send_signal(signal.SIGTERM)
        program.process.wait(30)
        left = [redis.ttl(key) for key in redis.scan_iter("rrq:health:worker:*", count=1000)]
    return Finding(f"seems alive for {left[0]} s more" if left else "leaves no record", not left)


def w24(side: Side) -> Finding:
    """While a job runs, somebody else becomes its owner; then the first one is done."""
    with side.worker():
        side.put("nap", params={"seconds": 2.0})
        side.wait("ACTIVE")
        redis = side.server.redis
        redis.set("rrq:lock:job:a", "somebody_else", ex=300)
        token = int(redis.hget("rrq:job:a", "rrqd_token") or 0)
        new = {"worker_id": "somebody_else", **({"rrqd_token": token + 1} if token else {})}
        redis.hset("rrq:job:a", mapping=new)
        side.after(3.5)
    status = side.status()
    return Finding(
        "writes COMPLETED over it" if status == "COMPLETED" else f"is told no, the job stays {status}",
        status == "ACTIVE",
    )
