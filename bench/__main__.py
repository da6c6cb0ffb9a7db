"""The command line: which benchmarks, how often, and where the figures go."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from importlib import import_module
from pathlib import Path

from bench import machine
from bench.server import Server, heed_term
from bench.sheet import Plan, Sheet, table

BENCHMARKS = ("enqueue", "drain", "runners", "latency", "idle", "memory", "rq")
ON_DEMAND = ("scale", "pages")


def main() -> int:
    words = arguments()
    heed_term()
    say = sys.stderr if words.json == "-" else sys.stdout
    facts = machine.facts()
    with Server() as server:
        facts["server"] = server.version()
    sheet = Sheet(facts)
    for name, fact in facts.items():
        print(f"{name + ':':14}{fact}", file=say)
    plan = Plan(jobs=words.jobs, repeat=words.repeat, rrq=words.rrq, rq=words.rq)
    print(f"{'asked for:':14}{', '.join(words.names)}; {plan.jobs} jobs, {plan.repeat} times\n", file=say, flush=True)
    for name in words.names:
        began, known, noted = time.monotonic(), len(sheet), len(sheet.notes)
        import_module(f"bench.{name}").run(plan, sheet)
        print(table(sheet.figures(known)), file=say)
        for note in sheet.notes[noted:]:
            print(f"! {note}", file=say)
        print(f"({name} took {time.monotonic() - began:.0f} s)\n", file=say, flush=True)
    if words.json == "-":
        print(sheet.as_json(), end="")
    elif words.json:
        Path(words.json).write_text(sheet.as_json())
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure rrqd on a server of its own.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS + ON_DEMAND)}; none: all but the last"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON too; - for stdout")
    parser.add_argument("--jobs", type=int, default=20_000, metavar="N", help="jobs of enqueue and drain (20000)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="how often everything is measured (3)")
    parser.add_argument("--rrq", metavar="PYTHON", help="an interpreter that has the real rrq, to compare with")
    parser.add_argument("--rq", metavar="PYTHON", help="an interpreter that has RQ, to compare RQ's face with")
    words = parser.parse_args()
    for name in words.names:
        if name not in BENCHMARKS + ON_DEMAND:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS + ON_DEMAND)}")
    words.names = words.names or list(BENCHMARKS)
    if words.jobs < 1000:
        parser.error("--jobs: fewer than 1000 say nothing")
    if words.repeat < 1:
        parser.error("--repeat: at least 1")
    if words.rrq is not None:
        found = shutil.which(words.rrq)
        if found is None:
            parser.error(f"--rrq: there is no program {words.rrq}")
        words.rrq = Path(found).absolute()
        if not (words.rrq.parent / "rrq-runner").exists():
            parser.error(f"--rrq: {words.rrq} has no rrq-runner beside it")
    if words.rq is not None:
        found = shutil.which(words.rq)
        if found is None or not (Path(found).absolute().parent / "rq").exists():
            parser.error(f"--rq: {words.rq} is no interpreter with an rq beside it")
        words.rq = Path(found).absolute()
    return words


if __name__ == "__main__":
    sys.exit(main())
