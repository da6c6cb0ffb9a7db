"""The daemon's two beginnings: a fresh start, and going on after an upgrade in place."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import setproctitle

import rrqd
from rrqd import clock, logs
from rrqd.config import loader
from rrqd.config.loader import Loaded
from rrqd.config.settings import Settings
from rrqd.supervisor import child as child_module
from rrqd.supervisor import messages
from rrqd.supervisor.births import House
from rrqd.supervisor.children import Kind, State
from rrqd.supervisor.house import Interrupted, StartError, address_of, move_in
from rrqd.supervisor.master import Master
from rrqd.supervisor.plans import plan_of
from rrqd.supervisor.signals import Signals
from rrqd.supervisor.systemd import Notifier
from rrqd.supervisor.upgrade import Snapshot, house_of, man
from rrqd.supervisor.view import Facts, status_line

NO_POOLS = "add [rrqd.pools.<name>] with handlers, a runner in [rrq.runners.<name>], or with --settings a job_registry"


def run_daemon(
    loaded: Loaded,
    *,
    roles: dict[str, str] | None = None,
    reload: Callable[[], Loaded] | None = None,
) -> int:
    """Run the daemon until it is told to stop. Returns the exit code: 0 after a stop, 78 for a configuration that
    can't work, 1 for anything else that keeps it from starting.

    `roles` replaces entries of `child.ROLES`; `reload` reads the configuration again (default: the same file).
    """
    log, signals, notifier = _prepare(loaded.settings)
    again = reload or (lambda: loader.load(str(loaded.path)))
    try:
        house, locks = move_in(
            loaded, {**child_module.ROLES, **(roles or {})}, loader.embedded_wanted(loaded), signals, notifier, log
        )
    except StartError as error:
        log.error("start.failed", error=str(error))
        return 1
    except Interrupted:
        return 0
    settings = house.settings[1]
    state = State(
        plan=plan_of(settings, 1), server_wanted=house.embedded is not None, web_wanted=house.listener is not None
    )
    facts = Facts(
        house.node_id,
        started_ms=clock.wall_ms(),
        http=address_of(house.listener) if house.listener else "",
        embedded_address=house.embedded.address if house.embedded else "",
    )
    log.info("start.begin", pid=os.getpid(), state_dir=str(house.state_dir))
    if not settings.rrqd.pools:
        log.warning("start.no_pools", what_now="cron and upkeep go on, but no job runs here", what_to_do=NO_POOLS)
    return _keep(
        lambda: Master(house, locks, str(loaded.path), state, facts, signals, notifier, log, again), house, locks
    )


def go_on(snapshot: Snapshot) -> int:
    """Be the master of children that this process had before it became this rrqd. Returns the exit code."""
    house = house_of(snapshot)
    log, signals, notifier = _prepare(house.settings[snapshot.state.plan.generation])
    path = snapshot.config_path

    def make() -> Master:
        one = Master(
            house, snapshot.locks, path, snapshot.state, snapshot.facts, signals, notifier, log,
            lambda: loader.load(path),
        )  # fmt: skip
        man(one.crew, snapshot, clock.monotonic())
        one.reloads.newest_generation = snapshot.newest_generation
        log.info("upgrade.done", version=rrqd.__version__, pid=os.getpid(), children=len(one.state.children))
        one.crew.tell(Kind.STEWARD, messages.upgraded())
        notifier.ready(status_line(one.state))
        return one

    return _keep(make, house, snapshot.locks)


def _prepare(settings: Settings) -> tuple[logs.Logger, Signals, Notifier]:
    """Ears first: from here on no signal is lost."""
    journal = logs.configure("master", settings.rrqd.log_format, settings.rrqd.log_level)
    signals = Signals()
    signals.install()
    setproctitle.setproctitle("rrqd: master")
    return journal.logger(), signals, Notifier.from_environment(os.environ)


def _keep(make: Callable[[], Master], house: House, locks: list[int]) -> int:
    journal = logs.journal()
    journal.fields["node"] = house.node_id
    try:
        return make().run()
    except Exception:
        # A mistake of ours. The children see the end of their lines: workers finish, everybody leaves.
        journal.logger().exception("master.crashed")
        return 70
    finally:
        # The interpreter puts the defaults back when it ends; a HUP at that moment would make a crash of a stop.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        if house.embedded is not None:
            house.embedded.clean_up()
        if house.listener is not None:
            house.listener.close()  # before the locks: the next rrqd, which waits for them, wants this address
        for fd in locks:
            os.close(fd)
        journal.flush()
