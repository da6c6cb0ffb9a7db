"""All desks of a client: what it asks about beside enqueueing and following jobs, one object for each subject."""

from __future__ import annotations

from rrqd.asking.config import Config, SyncConfig
from rrqd.asking.desk import Ask, Run
from rrqd.asking.family import Dependencies, SyncDependencies
from rrqd.asking.labels import Follow, SyncTags, SyncTracking, Tags, Tracking
from rrqd.asking.moving import Failures, Jobs, SyncFailures, SyncJobs
from rrqd.asking.past import Past, Stats, SyncPast, SyncStats
from rrqd.asking.recurring import RecurringJobs, SyncRecurringJobs
from rrqd.asking.tenants import SyncTenants, Tenants
from rrqd.asking.throttles import SyncThrottles, Throttles
from rrqd.asking.workers import SyncWorkers, Workers
from rrqd.model.request import Defaults


class Desks:
    """What ``RRQClient`` has."""

    def __init__(self, ask: Ask, follow: Follow, defaults: Defaults) -> None:
        self.config = Config(ask)
        self.dependencies = Dependencies(ask)
        self.failures = Failures(ask)
        self.jobs = Jobs(ask)
        self.past = Past(ask)
        self.recurring = RecurringJobs(ask, defaults)
        self.stats = Stats(ask)
        self.tags = Tags(ask)
        self.tenants = Tenants(ask)
        self.throttles = Throttles(ask)
        self.tracking = Tracking(ask, follow)
        self.workers = Workers(ask)


class SyncDesks:
    """What ``SyncRRQClient`` has."""

    def __init__(self, run: Run, desks: Desks) -> None:
        self.config = SyncConfig(run, desks.config)
        self.dependencies = SyncDependencies(run, desks.dependencies)
        self.failures = SyncFailures(run, desks.failures)
        self.jobs = SyncJobs(run, desks.jobs)
        self.past = SyncPast(run, desks.past)
        self.recurring = SyncRecurringJobs(run, desks.recurring)
        self.stats = SyncStats(run, desks.stats)
        self.tags = SyncTags(run, desks.tags)
        self.tenants = SyncTenants(run, desks.tenants)
        self.throttles = SyncThrottles(run, desks.throttles)
        self.tracking = SyncTracking(run, desks.tracking)
        self.workers = SyncWorkers(run, desks.workers)
