"""The programs on docs/classic.md, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rrqd.client import SyncRRQClient
from tests.support.server import Server

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)


def test_the_programs_of_the_page_run(tmp_path: Path, server: Server) -> None:
    programs = dict(BLOCK.findall((ROOT / "docs" / "classic.md").read_text()))
    assert list(programs) == ["app.py", "producer.py", "worker.py"]
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "RRQ_REDIS_DSN": server.dsn, "PYTHONPATH": str(ROOT)}

    def run(name: str) -> str:
        done = subprocess.run(
            [sys.executable, name], cwd=tmp_path, env=environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    job_id = run("producer.py").strip()
    run("worker.py")
    with SyncRRQClient(config={"redis_dsn": server.dsn}) as client:
        job = client.get_job_status(job_id)
    assert job is not None
    assert (job.status, job.result) == ("COMPLETED", "Good morning Ada")
