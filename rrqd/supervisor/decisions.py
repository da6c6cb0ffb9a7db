"""What the master should do next: table and moment in, actions out.

Rules of this file:

* Pure. It looks, never touches: carrying an action out changes the table, so that asking again brings the next.
* Level, not edge: nothing here remembers an event. Lost or doubled wake-ups change nothing.
* "Reload during stop", "stop during reload", "crash during anything" are no cases of their own: the mode decides
  first, then everybody's row.
"""

from __future__ import annotations

from collections.abc import Iterator

from rrqd.supervisor import keeping
from rrqd.supervisor.actions import Abandon, Action, Adopt, Drain, Exit, Kill, Leave, Report, Start, Stop
from rrqd.supervisor.children import Cause, Child, ExitReason, Kind, Mode, Phase, State

TICK_SECONDS = 0.5
"""The longest sleep: how often beats are read when nothing else happens."""
SUSPECT_SECONDS = 1.25
"""A loop that has been silent this long is reported: within two seconds, with the turn of our own loop and the moment
that the stacks take."""
STOPPED_FACTOR = 10.0
"""A worker frozen by SIGSTOP or a debugger, or one that gets no processor, gets this much more patience than one that
hangs: nothing is wrong with it."""
HAND_BACK_SECONDS = 2.0
"""After its deadline a worker hands back what it holds; that takes a round trip. Then it is killed. At a stop this
time, and what the others need to leave, is inside stop_timeout_seconds."""
LEAVE_SECONDS = {Kind.MOLD: 0.5, Kind.WEB: 3.0, Kind.STEWARD: 5.0, Kind.SERVER: 15.0}
"""Patience with the others. The server's last flush to disk may take a while."""
BOOT_FAILURES = {Kind.SERVER: 1}
"""How many failed starts, before ever being ready, end the daemon."""
BOOT_FAILURES_ELSE = 5
CONFIG_EXIT_CODE = 78


def decide(state: State, now: float) -> list[Action]:
    """What to do next, most urgent first. An empty list: wait until `next_moment`.

    A kill, and a plan adopted, come without what would follow from them: that is decided when they are in the table.
    """
    actions = list(_misbehaving(state, now))
    if any(isinstance(action, Kill) for action in actions):
        return actions
    if state.mode is Mode.STOP:
        return [*actions, *_stopping(state, now)]
    hopeless = _hopeless(state)
    if hopeless is not None:
        return [*actions, hopeless]
    actions += _reloading(state, now)
    if any(isinstance(action, Adopt) for action in actions):
        return actions
    actions += _services(state, now)
    actions += _molds(state, now)
    actions += keeping.workers(state, now)
    return actions


def next_moment(state: State, now: float) -> float:
    """When to look again if nothing happens: the next deadline, at most `TICK_SECONDS` ahead."""
    moments = [now + TICK_SECONDS]
    for backoff in state.backoffs.values():
        moments.append(backoff.not_before)
    for child in state.children.values():
        moments.append(child.leave_by)
        if child.kind is Kind.SERVER and child.phase is Phase.STARTING:
            moments.append(now + 0.02)
    if state.mode is Mode.STOP:
        moments += [state.stop_deadline, state.stop_deadline + state.plan.limits.hand_back_seconds]
    return min(moment for moment in moments if moment > now)


# -- those who misbehave -----------------------------------------------------------------------------------


def _misbehaving(state: State, now: float) -> Iterator[Action]:
    limits = state.plan.limits
    hung: list[Child] = []
    for child in state.children.values():
        if child.phase is Phase.KILLING:
            continue
        if child.phase is Phase.STARTING and _boot_is_over(state, child, now):
            yield Kill(child, ExitReason(Cause.BOOT_ERROR))
            mold = _mold_that_owes(state, child)
            if mold is not None and mold not in hung:
                hung.append(mold)
                yield Kill(mold, ExitReason(Cause.HANG))
        elif child.phase is Phase.LEAVING and now >= child.leave_by + _extra(state, child):
            yield Kill(child, ExitReason(Cause.PLANNED))
        elif child.overdue is not None:
            yield Kill(child, ExitReason(Cause.OVERDUE), child.overdue, "timeout")
        elif child.bursting:
            yield Kill(child, ExitReason(Cause.OOM))
        elif child.kind is Kind.WORKER and child.beat_at > 0:
            yield from _silent(child, now, state.trust_after, limits.grace_seconds, limits.hang_seconds)


def _extra(state: State, child: Child) -> float:
    if child.kind is not Kind.WORKER:
        return 0.0
    return state.plan.limits.hand_back_seconds if state.mode is Mode.STOP else HAND_BACK_SECONDS


def _boot_is_over(state: State, child: Child, now: float) -> bool:
    # A steward that has spoken is waiting for the store, and a server that answers LOADING is reading its data:
    # neither gets better by being killed.
    if child.kind in (Kind.STEWARD, Kind.SERVER) and child.spoke:
        return False
    return now - max(child.started_at, state.trust_after) > state.plan.limits.boot_seconds


def _mold_that_owes(state: State, child: Child) -> Child | None:
    """The mold that was asked for this worker and has not forked it in all that time: it will not fork any other."""
    pool = state.plan.pools.get(child.name)
    if child.kind is not Kind.WORKER or child.pid is not None or pool is None:
        return None
    return state.mold(pool.mold, child.generation)


def _silent(child: Child, now: float, trust_after: float, grace: float, hang: float) -> Iterator[Action]:
    """A loop that does not turn. After a pause of our own everybody looks silent, so nobody is: the master was
    suspended, or starved, and the beats it missed were made all the same."""
    silent = child.silent_seconds(now, trust_after)
    if silent < SUSPECT_SECONDS:
        return
    if not child.reported:
        yield Report(child)
    patience = STOPPED_FACTOR if child.stopped or child.starved else 1.0
    if child.suspect_job and child.suspect_deadline > 0 and not child.stopped:
        if now >= max(child.suspect_deadline, child.thawed_at, trust_after) + grace * patience:
            yield Kill(child, ExitReason(Cause.OVERDUE), child.suspect_job, "timeout")
    elif silent >= hang * patience:
        yield Kill(child, ExitReason(Cause.HANG), None if child.stopped else child.suspect_job or None)


# -- stop --------------------------------------------------------------------------------------------------


def _stopping(state: State, now: float) -> Iterator[Action]:
    """In the reverse order of the start, everybody with what is left of one deadline."""
    workers = state.of(Kind.WORKER, now)
    if workers:
        for worker in workers:
            yield from _stop_worker(state, worker, now)
        return
    for kind in (Kind.MOLD, Kind.WEB, Kind.STEWARD, Kind.SERVER):
        there = state.of(kind, now)
        if there:
            for child in there:
                if child.serving:
                    yield Leave(child, LEAVE_SECONDS[kind] / (1 if state.stop_step < 2 else 2))
            return
    yield Exit(state.exit_code)


def _stop_worker(state: State, worker: Child, now: float) -> Iterator[Action]:
    if worker.phase is Phase.KILLING:
        return
    seconds = max(0.0, state.stop_deadline - now)
    if state.stop_step >= 2:
        yield Kill(worker, ExitReason(Cause.PLANNED))
    elif state.stop_step == 1:
        if worker.leave_by > now:
            yield Drain(worker, 0.0)
    elif worker.serving or worker.leave_by > now + seconds:
        yield Drain(worker, seconds)


# -- start and keep ----------------------------------------------------------------------------------------


def _hopeless(state: State) -> Stop | None:
    """A start that can't succeed: better say so and go, than look alive. Once a label was ready it is kept
    trying, whatever happens."""
    for label, backoff in state.backoffs.items():
        if label in state.ever_ready or not _matters(state, label):
            continue
        if backoff.config_error:
            return Stop(CONFIG_EXIT_CODE, backoff.config_error)
        kind = Kind(label.partition(":")[0])
        if backoff.boot_failures >= BOOT_FAILURES.get(kind, BOOT_FAILURES_ELSE):
            return Stop(1, f"{label} did not start: {backoff.last_error}")
    return None


def _matters(state: State, label: str) -> bool:
    kind = label.partition(":")[0]
    if kind == Kind.WEB:
        return False  # without pages the work goes on
    if kind in (Kind.MOLD, Kind.WORKER):
        # Pools that a reload brought belong to a daemon that was good before.
        return state.plan.generation == 1
    return True


def _present(state: State, kind: Kind, now: float) -> bool:
    """One is there, or on its way out: two at a time would quarrel about what they own."""
    return bool(state.of(kind, now))


def _services(state: State, now: float) -> Iterator[Action]:
    generation = state.plan.generation
    if state.server_wanted and not _present(state, Kind.SERVER, now) and state.open_again(Kind.SERVER, now):
        yield Start(Kind.SERVER, Kind.SERVER, 0, generation)
    if state.web_wanted and not _present(state, Kind.WEB, now) and state.open_again(Kind.WEB, now):
        yield Start(Kind.WEB, Kind.WEB, 0, generation)
    if _store_is_up(state) and not _present(state, Kind.STEWARD, now) and state.open_again(Kind.STEWARD, now):
        yield Start(Kind.STEWARD, Kind.STEWARD, 0, generation)


def _store_is_up(state: State) -> bool:
    """As far as the master can know: only of its own server."""
    if not state.server_wanted:
        return True
    server = state.service(Kind.SERVER)
    return server is not None and server.phase is Phase.READY


def _molds(state: State, now: float) -> Iterator[Action]:
    plan = state.plan
    for name, generation in plan.molds:
        if state.mold(name, generation) is None and state.open_again(f"{Kind.MOLD}:{name}", now):
            yield Start(Kind.MOLD, name, 0, generation)
    kept = {*plan.molds, *(state.candidate.molds if state.candidate else ())}
    for child in state.of(Kind.MOLD, now):
        if (child.name, child.generation) not in kept and child.serving:
            yield Leave(child, LEAVE_SECONDS[Kind.MOLD])


# -- reload ------------------------------------------------------------------------------------------------


def _reloading(state: State, now: float) -> Iterator[Action]:
    candidate = state.candidate
    if candidate is None:
        return
    # Those of an older generation serve pools that this reload leaves alone: they are there, or will be again.
    molds = {key: state.mold(*key) for key in candidate.molds if key[1] == candidate.generation}
    limit = candidate.limits.boot_seconds
    if state.candidate_error:
        yield Abandon(candidate, state.candidate_error)
    elif all(mold is not None and mold.phase is Phase.READY for mold in molds.values()):
        yield Adopt(candidate)
    elif now - max(state.candidate_since, state.trust_after) > limit:
        slow = [name for (name, _generation), mold in molds.items() if not mold or not mold.ready_at]
        yield Abandon(candidate, f"mold {', '.join(slow)} was not ready within {limit:g} s")
    else:
        for (name, generation), mold in molds.items():
            if mold is None and state.open_again(f"{Kind.MOLD}:{name}", now):
                yield Start(Kind.MOLD, name, 0, generation)
