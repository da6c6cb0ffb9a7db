"""The timetable in RRQ's file: the real rrq reads it with our keys in it, and means the same by its schedules."""

from __future__ import annotations

from pathlib import Path

from rrqd.config.loader import load
from rrqd.config.rrq_table import CronJobSettings
from rrqd.model.timetable import read_timetable
from rrqd.store import Store
from tests.interop.conftest import RealRRQ

ALL_KEYS = """
[[rrq.cron_jobs]]
function_name = "report"
schedule = "0 30 6 * * MON-FRI"
params = { n = 1 }
args = [1]
queue_name = "slow"
unique = true
name = "morning"
timezone = "Europe/Paris"
missed = "all"
missed_most = 5
missed_within_seconds = 60.0
job_timeout_seconds = 9
max_retries = 2
result_ttl_seconds = 60
priority = 1
tags = ["a"]
throttles = ["b"]
tenant = "acme"
rate = "api:100/m"
"""


async def test_the_real_rrq_reads_a_file_with_our_keys(
    tmp_path: Path, dsn: str, store: Store, real_rrq: RealRRQ
) -> None:
    """`store` stands for an empty server: the real command line stops at a queue's key that holds something else."""
    file = tmp_path / "rrq.toml"
    file.write_text(f'[rrq]\nredis_dsn = "{dsn}"\n{ALL_KEYS}')

    assert "queue" in real_rrq.cli(file, "queue", "list")
    (one,) = load(str(file)).settings.rrq.cron_jobs
    assert one.model_fields_set >= set(CronJobSettings.model_fields)
    assert list(read_timetable(load(str(file)).settings)) == ["morning"]
