"""A job of the real rrq client carries its trace into a daemon as docs/opentelemetry.md sets it up, and out by OTLP."""

from __future__ import annotations

import re

from tests.interop.conftest import RealRRQ
from tests.support.collector import Collector
from tests.support.daemon import ROOT, Daemon

PAGE = (ROOT / "docs" / "opentelemetry.md").read_text()
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
#: What a program with the real client does when its own tracer is on: the current span goes along as W3C text.
ASK = """
import asyncio, sys
from rrq.client import RRQClient

async def main():
    client = RRQClient(config={"redis_dsn": sys.argv[1]})
    options = {"params": {"name": "Ada"}, "trace_context": {"traceparent": sys.argv[2]}}
    job_id = await client.enqueue("greet", options)
    ended = await client.wait_for_completion(job_id, timeout_seconds=10, block_interval_seconds=0.2)
    print(job_id, ended.result)
    await client.close()

asyncio.run(main())
"""


def test_the_trace_of_a_real_client_is_continued_and_exported(real_rrq: RealRRQ) -> None:
    (jobs,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with (
        Collector() as collector,
        Daemon(
            {"default": {"processes": 1}},
            stand_ins=False,
            jobs=jobs,
            environment={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
        ) as daemon,
    ):
        daemon.expect_log("rrqd.ready", 40)
        dsn = f"redis://127.0.0.1:{daemon.port}/0"
        job_id, said = real_rrq.run("-c", ASK, dsn, f"00-{TRACE}-{SPAN}-01").strip().split(" ", 1)
        assert said == "Hello, Ada!"
        assert daemon.stop() == 0  # and with it the worker has sent what it had

    ((service, span),) = collector.named("rrq.job")
    attributes = {one.key: one.value.string_value for one in span.attributes}
    assert service == "shop"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert (attributes["rrq.job_id"], attributes["rrq.outcome"]) == (job_id, "success")
    assert {"rrq_jobs_processed_total", "rrq_job_duration_ms", "rrq_queue_wait_ms"} <= collector.metrics
