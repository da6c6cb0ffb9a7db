"""The real client enqueues, rrqd runs; then the real client and the real command line agree with what happened."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.interop.conftest import RealRRQ
from tests.support.daemon import Daemon, quiet_port

SCRIPTS = Path(__file__).parent / "scripts"


def rrqd_spelling() -> str:
    """The handlers written for the real rrq, with nothing changed but the package's name."""
    text = (SCRIPTS / "handlers.py").read_text()
    return text.replace("from rrq.", "from rrqd.")


class Ledger:
    """What the handlers wrote down: one line for each run that was begun."""

    def __init__(self, path: Path) -> None:
        self.runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in path.read_text().splitlines():
            run = json.loads(line)
            self.runs[run["job_id"]].append(run)

    def attempts(self, job_id: str) -> list[int]:
        return [run["attempt"] for run in self.runs[job_id]]


def judge(job: dict[str, Any], ledger: Ledger, who: str = "rrqd") -> None:
    """One job: what the real client was told, against what was asked for and what ran."""
    job_id, params, told = job["id"], job["params"], job["status"]
    assert job["waited"] == told, job
    match job["kind"]:
        case "plain" | "deferred" | "unique" | "limited" | "debounced":
            assert told == {"status": "COMPLETED", "result": params, "last_error": None}, job
            assert ledger.attempts(job_id) == [1]
            run = ledger.runs[job_id][0]
            assert (run["params"], run["who"]) == (params, who)
        case "failing":
            said = {"status": "FAILED", "result": None, "last_error": f"told to fail: {params['n']}"}
            assert told == said, job
            assert ledger.attempts(job_id) == list(range(1, job["attempts"] + 1))
        case "retrying":
            assert told == {"status": "COMPLETED", "result": 2, "last_error": "not yet"}, job
            assert ledger.attempts(job_id) == [1, 2]
        case "unknown":
            why = "No handler registered for function 'nobody_has_this'"
            assert told == {"status": "FAILED", "result": None, "last_error": why}, job
            assert ledger.attempts(job_id) == []
        case kind:
            raise AssertionError(kind)


def judge_contexts(jobs: list[dict[str, Any]], ledger: Ledger) -> None:
    """Queues, trace contexts and correlation arrive as they were sent."""
    for job in jobs:
        if job["kind"] != "plain":
            continue
        run, n = ledger.runs[job["id"]][0], job["params"]["n"]
        assert run["queue"] == f"rrq:queue:{job['queue'] or 'default'}"
        assert run["correlation"] == {"tenant_id": str(n % 7)}
        assert run["trace"] == ({"traceparent": f"00-{n:032x}-{n:016x}-01"} if n % 3 == 0 else None)
        datetime.fromisoformat(run["enqueued"])


def test_a_thousand_jobs_of_every_kind_end_as_the_real_client_and_command_line_say(real_rrq: RealRRQ) -> None:
    daemon = Daemon(
        pools={"default": {"processes": 2, "concurrency": 10, "queues": ["default", "mail"]}},
        stand_ins=False,
        jobs=rrqd_spelling(),
        rrq={"base_retry_delay_seconds": 0.05},
    )
    path = daemon.folder / "ledger"
    daemon.environment["LEDGER"] = str(path)
    with daemon:
        daemon.expect_log("rrqd.ready")
        config = daemon.folder / "real.toml"
        config.write_text(
            f'[rrq]\nredis_dsn = "redis://127.0.0.1:{daemon.port}/0"\n'
            '[rrq.correlation_mappings]\ntenant_id = "params.tenant.id"\n'
        )
        said = json.loads(real_rrq.run(str(SCRIPTS / "thousand.py"), str(config)))
        jobs, ledger = said["jobs"], Ledger(path)

        assert len(jobs) == 1000
        for job in jobs:
            judge(job, ledger)
        judge_contexts(jobs, ledger)
        by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for job in jobs:
            by_kind[job["kind"]].append(job)
        assert all(job["second"] == job["id"] for job in by_kind["unique"])
        assert all(job["second"] is None for job in by_kind["limited"])
        assert all(set(job["calls"]) == {job["id"]} for job in by_kind["debounced"])
        assert set(ledger.runs) <= {job["id"] for job in jobs}, "something ran that nobody asked for"
        assert (said["later_waited"], said["later_status"]["status"]) == (None, "PENDING")
        assert said["stranger"] is None

        judge_command_line(real_rrq, config, jobs, said["later"])
        assert daemon.stop() == 0


def test_the_real_client_and_the_real_runner_meet_in_rrqd(real_rrq: RealRRQ) -> None:
    daemon = Daemon(pools={}, stand_ins=False)
    path = daemon.folder / "ledger"
    (daemon.folder / "handlers.py").write_text((SCRIPTS / "handlers.py").read_text())
    runner = {
        "type": "socket", "cmd": [str(real_rrq.python.parent / "rrq-runner"), "--settings", "handlers.settings"],
        "tcp_port": quiet_port(), "pool_size": 2, "max_in_flight": 16,
        "env": {"PYTHONPATH": str(daemon.folder), "LEDGER": str(path)},
    }  # fmt: skip
    daemon.rrq = {
        "base_retry_delay_seconds": 0.05, "redis_dsn": f"redis://127.0.0.1:{daemon.port}/0",
        "runners": {"python": runner}, "runner_routes": {"mail": "python"},
        "correlation_mappings": {"tenant_id": "params.tenant.id"},
    }  # fmt: skip
    daemon.rrqd["embedded"] = "always"
    daemon.write_config()
    with daemon:
        daemon.expect_log("rrqd.ready")
        said = json.loads(real_rrq.run(str(SCRIPTS / "thousand.py"), str(daemon.folder / "rrq.toml"), "0.2"))
        jobs, ledger = said["jobs"], Ledger(path)
        assert len(jobs) == 200
        for job in jobs:
            judge(job, ledger, "rrq")
        judge_contexts(jobs, ledger)
        assert "Found 2 active worker(s)" in real_rrq.cli(daemon.folder / "rrq.toml", "check")
        assert daemon.stop() == 0


def judge_command_line(real_rrq: RealRRQ, config: Path, jobs: list[dict[str, Any]], later: list[str]) -> None:
    """`rrq check`, `queue list`, `job show` and `dlq list` agree with the outcomes."""
    assert "Found 2 active worker(s)" in real_rrq.cli(config, "check")

    queues = real_rrq.cli(config, "queue", "list")
    assert "rrq:queue:later" in queues
    assert "Total: 3 pending jobs" in queues

    failed = [job["id"] for job in jobs if job["status"]["status"] == "FAILED"]
    buried = real_rrq.cli(config, "dlq", "list", "--limit", "500")
    assert f"of {len(failed)} jobs" in buried
    assert all(job_id in buried for job_id in failed)

    shown = Counter[str]()
    for kind in sorted({job["kind"] for job in jobs}):
        job = next(one for one in jobs if one["kind"] == kind)
        page = real_rrq.cli(config, "job", "show", job["id"])
        assert job["status"]["status"] in page
        assert job["id"] in page
        shown[kind] += 1
    assert len(shown) == 8
    assert "PENDING" in real_rrq.cli(config, "job", "show", later[0])
    assert "cancelled successfully" in real_rrq.cli(config, "job", "cancel", later[0])
    assert "Requeued 3 job(s)" in real_rrq.cli(config, "dlq", "requeue", "--limit", "3", "--all")
