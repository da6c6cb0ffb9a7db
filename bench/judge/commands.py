"""Defects of the command line, and of what it does to jobs."""

from __future__ import annotations

from bench.judge.side import Finding, Side


def w09(side: Side) -> Finding:
    """A job that was buried is put back with ``dlq requeue``."""
    with side.worker():
        side.put("fail", queue="default", max_retries=1)
        side.end()
        side.after(0.2)
    side.command(side.config(), "dlq", "requeue", "--job-id", "a")
    job, ttl = side.job(), side.server.redis.ttl("rrq:job:a")
    kept = [name for name in ("last_error", "completion_time", "worker_id") if name in job]
    text = f"{job['status']}, {job['current_retries']} of {job['max_retries']} attempts used"
    text += f", expires in {ttl} s" if ttl > 0 else ""
    text += f", keeps {', '.join(kept)}" if kept else ""
    return Finding(text, job["current_retries"] == "0" and ttl < 0 and not kept)


def w11(side: Side) -> Finding:
    """A running job is cancelled."""
    with side.worker() as program:
        side.put("nap", params={"seconds": 5})
        side.wait("ACTIVE")
        said = side.command(program.config, "job", "cancel", "a")
        end = side.end(seconds=3.0)
    return Finding(f"`{said.stdout.strip()[:60]}`, {end}", end == "CANCELLED")


def w16(side: Side) -> Finding:
    """``check`` where nobody lives."""
    code = side.command(side.config(), "check").returncode
    return Finding(f"exit code {code}", code != 0)


def w17(side: Side) -> Finding:
    """``dlq list`` with names of non-ASCII letters."""
    for length in range(30, 50):
        name = "x" * (length % 4) + "é" * length
        side.put(name, f"j{length}", "gone", status="FAILED", last_error=name, completion_time="2026-01-01T00:00:00Z")
        side.server.redis.lpush("rrq:dlq:default", f"j{length}")
    side.server.redis.delete("rrq:queue:gone")
    done = side.command(side.config(), "dlq", "list")
    last = (done.stderr.strip().splitlines() or [""])[0]
    return Finding(f"exit code {done.returncode}{f': {last[:90]}' if last else ''}", done.returncode == 0)


def w19(side: Side) -> Finding:
    """A waiting job is cancelled: when does it go away?"""
    side.put("nothing", at=10**13)
    side.command(side.config(), "job", "cancel", "a")
    ttl = side.server.redis.ttl("rrq:job:a")
    return Finding(f"{side.status()}, {'never' if ttl < 0 else f'in {ttl} s'}", ttl > 0)


def w20(side: Side) -> Finding:
    """A misspelt key under ``[rrq]``."""
    done = side.command(side.config("default_max_retrys = 3\n"), "queue", "list")
    said = (done.stderr.strip() or "nothing").splitlines()[0]
    return Finding(f"exit code {done.returncode}, says {said.rpartition('/')[2][:130]}", done.returncode != 0)
