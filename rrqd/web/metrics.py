"""A Sight as Prometheus metrics. Pure; the exposition formats are prometheus-client's.

Counters come from the flight pages, which outlive the workers that count in them, so they never go backwards while the
daemon runs. Label values come from the configuration and the registry, so their number is bounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from rrqd import __version__
from rrqd.flight import BUCKETS, BUCKETS_SECONDS, Counter, Tally
from rrqd.web.health import verdict
from rrqd.web.sight import Sight


def exposition(sight: Sight, accept: str) -> tuple[bytes, str]:
    """The metrics in the format that ``accept`` asks for, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Seen(sight))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Seen(Collector):
    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def collect(self) -> Iterator[Metric]:
        sight = self._sight
        build = InfoMetricFamily("rrqd_build", "The running rrqd.")
        build.add_metric([], {"version": __version__})
        yield build
        ready = float(verdict(sight).ok("ready"))
        yield GaugeMetricFamily("rrqd_ready", "1 if /readyz says yes.", value=ready)
        yield from _jobs(sight.tallies)
        yield from _workers(sight)
        yield from _queues(sight)
        yield from _cron(sight)
        yield from _processes(sight)


def _jobs(tallies: Iterable[Tally]) -> Iterator[Metric]:
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    waits: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * (BUCKETS + 1))
    runs: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * (BUCKETS + 1))
    for tally in tallies:
        counts[tally.queue, tally.function, tally.outcome] += tally.count
        for table, buckets, total in (
            (waits, tally.waits, tally.wait_seconds_sum),
            (runs, tally.runs, tally.run_seconds_sum),
        ):
            row = table[tally.queue, tally.function]
            for place, number in enumerate(buckets):
                row[place] += number
            row[BUCKETS] += total
    jobs = CounterMetricFamily("rrqd_jobs", "Runs that ended, by outcome.", labels=("queue", "function", "outcome"))
    for labels, number in sorted(counts.items()):
        jobs.add_metric(labels, number)
    yield jobs
    yield _histogram("rrqd_job_wait_seconds", "Seconds from due to claimed, by the server's clock.", waits)
    yield _histogram("rrqd_job_run_seconds", "Seconds a run took.", runs)


def _histogram(name: str, text: str, table: dict[tuple[str, str], list[float]]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=("queue", "function"))
    for labels, row in sorted(table.items()):
        total, buckets = 0.0, []
        for place, bound in enumerate((*map(str, BUCKETS_SECONDS), "+Inf")):
            total += row[place]
            buckets.append((bound, total))
        family.add_metric(labels, buckets, row[BUCKETS])
    return family


def _workers(sight: Sight) -> Iterator[Metric]:
    flying: dict[str, int] = defaultdict(int)
    totals: dict[str, int] = defaultdict(int)
    for page in sight.pages:
        if page.state not in ("empty", "gone"):
            flying[page.pool] += page.running
        for name, number in page.counters.items():
            totals[name] += number
    in_flight = GaugeMetricFamily("rrqd_jobs_in_flight", "Jobs running now.", labels=("pool",))
    for name in sorted({*flying, *sight.master.get("pools", {})}):
        in_flight.add_metric((name,), flying[name])
    yield in_flight
    wanted = GaugeMetricFamily("rrqd_pool_workers_wanted", "Workers a pool should have.", labels=("pool",))
    there = GaugeMetricFamily("rrqd_pool_workers_ready", "Workers of a pool that take jobs.", labels=("pool",))
    degraded = GaugeMetricFamily("rrqd_pool_degraded", "1 if workers die faster than they work.", labels=("pool",))
    for name, pool in sorted(sight.master.get("pools", {}).items()):
        degraded.add_metric((name,), float(bool(pool.get("degraded"))))
        wanted.add_metric((name,), pool.get("processes") or 0)
        there.add_metric((name,), pool.get("ready") or 0)
    yield wanted
    yield there
    yield degraded
    for counter in Counter:
        text = f"Sum over all workers: {counter.label.replace('_', ' ')}."
        yield CounterMetricFamily(f"rrqd_worker_{counter.label}", text, value=totals[counter.label])


def _queues(sight: Sight) -> Iterator[Metric]:
    store = sight.store
    yield GaugeMetricFamily("rrqd_store_up", "1 if the server answers.", value=float(store.ok))
    if store.version:
        info = InfoMetricFamily("rrqd_store", "The server.")
        info.add_metric([], {"flavour": store.flavour, "version": store.version})
        yield info
    if not store.ok:
        return
    lease = store.lease_seconds if store.lease_seconds is not None else 0.0
    yield GaugeMetricFamily("rrqd_lease_remaining_seconds", "Until this node's lease ends; < 0: it has.", value=lease)
    yield GaugeMetricFamily("rrqd_jobs_aside", "Ids set aside because their key is no job.", value=store.aside)
    depth = GaugeMetricFamily("rrqd_queue_jobs", "Jobs in a queue: due now, or scheduled.", labels=("queue", "state"))
    age = GaugeMetricFamily("rrqd_queue_oldest_age_seconds", "How long the oldest due job waits.", labels=("queue",))
    paused = GaugeMetricFamily("rrqd_queue_paused", "1 if nobody may claim from it.", labels=("queue",))
    for queue in store.queues:
        paused.add_metric((queue.name,), float(queue.paused))
        depth.add_metric((queue.name, "due"), queue.due)
        depth.add_metric((queue.name, "scheduled"), queue.waiting - queue.due)
        depth.add_metric((queue.name, "dependent"), queue.dependent)
        age.add_metric((queue.name,), queue.oldest_due_age_seconds)
    yield depth
    yield age
    yield paused
    buried = GaugeMetricFamily("rrqd_dlq_jobs", "Jobs in a dead-letter queue.", labels=("dlq",))
    for name, number in sorted(store.dlqs.items()):
        buried.add_metric((name,), number)
    yield buried


def _cron(sight: Sight) -> Iterator[Metric]:
    """Counted in the store, by all nodes: every node shows the same."""
    if not sight.store.cron:
        return
    label = ("entry",)
    fired = CounterMetricFamily("rrqd_cron_fired", "Jobs that the timetable made, on all nodes.", labels=label)
    missed = CounterMetricFamily("rrqd_cron_missed", "Missed ticks that were not made up.", labels=label)
    overlapped = CounterMetricFamily("rrqd_cron_overlapped", "Ticks left out: the last job ran.", labels=label)
    last = GaugeMetricFamily("rrqd_cron_last_tick_timestamp_seconds", "The last tick dealt with.", labels=label)
    paused = GaugeMetricFamily("rrqd_cron_paused", "1 if the entry makes no jobs.", labels=label)
    for name, state in sorted(sight.store.cron.items()):
        fired.add_metric((name,), state.fired)
        missed.add_metric((name,), state.missed)
        overlapped.add_metric((name,), state.overlapped)
        last.add_metric((name,), state.last.timestamp() if state.last is not None else 0)
        paused.add_metric((name,), float(state.paused))
    yield from (fired, missed, overlapped, last, paused)


def _processes(sight: Sight) -> Iterator[Metric]:
    master = sight.master
    processes: dict[tuple[str, str], int] = defaultdict(int)
    for one in master.get("processes", []):
        processes[str(one.get("kind")), str(one.get("phase"))] += 1
    for pool in master.get("pools", {}).values():
        for slot in pool.get("slots", []):
            processes["worker", str(slot.get("phase"))] += 1
    alive = GaugeMetricFamily("rrqd_processes", "Processes by role and phase.", labels=("role", "phase"))
    for labels, number in sorted(processes.items()):
        alive.add_metric(labels, number)
    yield alive
    exits = CounterMetricFamily("rrqd_process_exits", "Processes that ended, and why.", labels=("process", "reason"))
    for one in master.get("exits", []):
        exits.add_metric((str(one.get("who")), str(one.get("cause"))), one.get("count", 0))
    yield exits
    yield GaugeMetricFamily(
        "rrqd_generation", "The configuration and code in force.", value=master.get("generation", 0)
    )
    reload = master.get("reload") or {}
    ok = 0.0 if reload.get("ok") is False else 1.0
    yield GaugeMetricFamily("rrqd_config_last_reload_successful", "1 if the last reload was taken over.", value=ok)
    at = float(reload.get("at_ms") or 0) / 1000
    yield GaugeMetricFamily("rrqd_config_last_reload_timestamp_seconds", "When that was; 0: never.", value=at)
    started = float(master.get("started_ms") or 0) / 1000
    yield GaugeMetricFamily("rrqd_start_time_seconds", "When the master started.", value=started)
    pss = GaugeMetricFamily("rrqd_process_pss_bytes", "Proportional set size.", labels=("role", "name"))
    private = GaugeMetricFamily("rrqd_process_private_bytes", "Memory shared with nobody.", labels=("role", "name"))
    # During a reload a slot has two workers, and a pool two molds: one sum each, or Prometheus takes neither.
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for weight in sight.memory:
        row = sums[weight.role, weight.name]
        row[0] += weight.pss_bytes
        row[1] += weight.private_bytes
    for who, (shared, own) in sorted(sums.items()):
        pss.add_metric(who, shared)
        private.add_metric(who, own)
    yield pss
    yield private
