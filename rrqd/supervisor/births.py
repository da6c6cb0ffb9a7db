"""What all children share, and what one of them is given at its birth: its record, its descriptors, its environment."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrqd.config.settings import Settings
from rrqd.flight import FlightDeck
from rrqd.supervisor import messages, process
from rrqd.supervisor.children import Child, Kind, State
from rrqd.supervisor.embedded import Embedded
from rrqd.supervisor.plans import Plan

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def share_processors(environment: dict[str, str], workers: int) -> None:
    """A library that starts a thread for every processor in every worker makes all of them slower."""
    share = str(max(1, (os.cpu_count() or 1) // max(1, workers)))
    for name in THREAD_VARIABLES:
        environment.setdefault(name, share)


@dataclass(slots=True)
class House:
    """What all children share: the place, the names, the descriptors."""

    node_id: str
    state_dir: Path
    config_path: Path
    roles: dict[str, str]
    deck: FlightDeck
    members_fd: int
    """Held by steward and workers: while one of them lives, the next rrqd on this folder waits."""
    predecessor: str = ""
    """The node whose folder this was before; all its processes are gone, and what they held is ours to put back."""
    listener: socket.socket | None = None
    embedded: Embedded | None = None
    wake_fds: dict[str, int] = field(default_factory=dict)
    settings: dict[int, Settings] = field(default_factory=dict)
    """Generation -> its settings, with our own server's address in place."""

    @property
    def config_folder(self) -> Path:
        """Relative paths in the file start here, and modules in it can be imported."""
        return self.config_path.parent

    def wake_fd(self, pool: str) -> int:
        if pool not in self.wake_fds:
            self.wake_fds[pool] = process.wake_file()
        return self.wake_fds[pool]


def birth_record(
    house: House, state: State, child: Child, control_fd: int
) -> tuple[dict[str, Any], list[int], dict[str, str]]:
    """The boot record of an exec'd role, the descriptors in their order (4, 5 …), and its environment."""
    settings = house.settings[child.generation]
    fields: dict[str, Any] = {
        "title": child.title,
        "settings": settings.to_json(),
        "node_id": house.node_id,
        "generation": child.generation,
        "state_dir": str(house.state_dir),
        "master_pid": os.getpid(),
        "fds": {"control": 4, "deck": 5},
    }
    fds = [control_fd, house.deck.fd]
    environment = dict(os.environ)
    if child.kind is Kind.STEWARD:
        _steward_fields(house, state, child, fields, fds)
    elif child.kind is Kind.WEB:
        assert house.listener is not None
        fds.append(house.listener.fileno())
        fields["fds"]["listen"] = [6]
        fields["config_path"] = str(house.config_path)
    else:
        _mold_fields(house, state, child, fields, environment)
    role = "worker" if child.kind is Kind.MOLD else child.kind.value
    record = messages.boot_record(child.kind.value, house.roles[role], **fields)
    return record, fds, environment


def _steward_fields(house: House, state: State, child: Child, fields: dict[str, Any], fds: list[int]) -> None:
    pools = _plan(state, child.generation).pools
    fds.append(house.members_fd)
    fields["fds"]["members"] = 6
    fields["fds"]["wake"] = {}
    for place, pool in enumerate(pools):
        fds.append(house.wake_fd(pool))
        fields["fds"]["wake"][pool] = 7 + place
    fields["queues"] = {name: list(pool.queues) for name, pool in pools.items()}
    fields["workers"] = {one.worker_id: one.pid for one in state.workers()}
    server = state.service(Kind.SERVER)
    fields["predecessor"] = house.predecessor
    fields["embedded_pid"] = server.pid if server else None


def _mold_fields(house: House, state: State, child: Child, fields: dict[str, Any], environment: dict[str, str]) -> None:
    plan = _plan(state, child.generation)
    spec = plan.molds[child.name, child.generation]
    fields |= spec.fields(house.config_folder)
    share_processors(environment, plan.workers)
    environment.update(spec.environment)


def _plan(state: State, generation: int) -> Plan:
    candidate = state.candidate
    return candidate if candidate and candidate.generation == generation else state.plan
