"""``python -m rrqd.rq``: a worker from the command line, and other programs on the embedded server.

    python -m rrqd.rq worker high default low --burst
    python -m rrqd.rq with rrqd --config rrq.toml
    python -m rrqd.rq with rrqd queue list

``with`` runs a program that is told of the server by ``RRQ_REDIS_DSN``; the server stays as long as it runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from rrqd.rq.connection import DSN_VARIABLE, NoServer, connect
from rrqd.rq.worker import Worker

EX_USAGE = 64
EX_UNAVAILABLE = 69
EX_NOT_FOUND = 127


def main(argv: Sequence[str]) -> int:
    """Answers the exit code: the program's own, or 0, 64 (a bad call), 69 (no server), 127 (no such program)."""
    if argv[:1] == ["with"]:  # what stands behind it is the program's, options too
        return run_with(list(argv[1:]))
    parser = argparse.ArgumentParser(prog="python -m rrqd.rq", description=__doc__, exit_on_error=True)
    commands = parser.add_subparsers(dest="command", required=True, metavar="worker | with")
    worker = commands.add_parser("worker", help="run jobs of these queues, earlier ones first")
    worker.add_argument("queues", nargs="*", default=["default"], metavar="QUEUE")
    worker.add_argument("--burst", "-b", action="store_true", help="end when no job waits")
    worker.add_argument("--name", "-n", help="what it is called in lists and logs")
    worker.add_argument("--url", "-u", help=f"the server (redis://…); left out: {DSN_VARIABLE}, or the embedded one")
    commands.add_parser("with", help="run a program on the same server: with COMMAND …")
    given = parser.parse_args(argv)
    if "" not in sys.path:
        sys.path.insert(0, "")  # functions are looked for where the command is given, as RQ does
    try:
        Worker(given.queues, name=given.name, connection=given.url).work(burst=given.burst)
    except (NoServer, ValueError) as fault:
        print(f"rrqd.rq worker: {fault}", file=sys.stderr)
        return EX_UNAVAILABLE if isinstance(fault, NoServer) else EX_USAGE
    return 0


def run_with(command: list[str]) -> int:
    """Run a program and wait for its end; TERM and HUP are passed on, INT reaches it by itself."""
    if not command:
        print("rrqd.rq with: name the program to run, as in: python -m rrqd.rq with rrqd queue list", file=sys.stderr)
        return EX_USAGE
    place = connect()
    try:
        environment = {**os.environ, DSN_VARIABLE: place.dsn}
        program = subprocess.Popen(command, env=environment)
    except NoServer as fault:
        print(f"rrqd.rq with: {fault}", file=sys.stderr)
        return EX_UNAVAILABLE
    except OSError as fault:
        print(f"rrqd.rq with: {command[0]}: {fault.strerror}", file=sys.stderr)
        return EX_NOT_FOUND
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: program.send_signal(number))
    code = program.wait()
    place.close()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
