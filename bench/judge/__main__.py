"""The command line: which cases, and the table."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench.judge import asking, commands, runners, working
from bench.judge.side import Finding, Side
from bench.server import Server, heed_term

Case = Callable[[Side], Finding]
CASES: dict[str, Case] = {
    "W1": working.w01, "W2": working.w02, "W3": working.w03, "W4": runners.w04, "W4b": runners.w04b,
    "W5": asking.w05, "W6": working.w06, "W7": working.w07, "W8": runners.w08, "W9": commands.w09,
    "W10": working.w10, "W11": commands.w11, "W12": asking.w12, "W13": asking.w13, "W14": working.w14,
    "W15": asking.w15, "W16": commands.w16, "W17": commands.w17, "W19": commands.w19, "W20": commands.w20,
    "W20 runner": runners.w20_runner, "W21": runners.w21, "W22": asking.w22, "W23": working.w23, "W24": working.w24,
}  # fmt: skip
NOT_JUDGED = {"W18": "needs machines whose clocks differ"}
"""Defect -> why it can't be provoked here."""


def main() -> int:
    words = arguments()
    heed_term()
    wrong = 0
    if words.markdown:
        print("| | what is done | RRQ 0.11.1 | rrqd |\n|---|---|---|---|")
    for name in words.names:
        findings = [judge(CASES[name], package, words.rrq) for package in ("rrq", "rrqd")]
        real, ours = findings
        wrong += real.is_well or not ours.is_well
        done = (CASES[name].__doc__ or "").rstrip(".")
        if words.markdown:
            print(f"| {name} | {done} | {real.text} | {ours.text} |", flush=True)
        else:
            marks = [f"{'well' if one.is_well else 'BAD':4}  {one.text}" for one in findings]
            print(f"{name}: {done}\n  rrq   {marks[0]}\n  rrqd  {marks[1]}", flush=True)
    for name, why in NOT_JUDGED.items():
        print(f"| {name} | not judged: {why} | | |" if words.markdown else f"{name}: not judged, {why}")
    return 1 if wrong else 0


def judge(case: Case, package: str, python: Path) -> Finding:
    """One case on one side. Whatever goes wrong is a finding, too."""
    with Server() as server:
        try:
            return case(Side("rrq" if package == "rrq" else "rrqd", python, server))
        except (RuntimeError, TimeoutError, OSError) as fault:
            return Finding(f"({type(fault).__name__}: {str(fault).splitlines()[0][:100]})", package == "rrq")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.judge", description="Provoke RRQ's known defects in the real rrq and in rrqd."
    )
    parser.add_argument("names", nargs="*", metavar="W", help=f"any of {', '.join(CASES)}; none: all")
    parser.add_argument("--rrq", metavar="PYTHON", required=True, help="an interpreter that has the real rrq")
    parser.add_argument("--markdown", action="store_true", help="print a table for the page")
    words = parser.parse_args()
    for name in words.names:
        if name not in CASES:
            parser.error(f"there is no case {name!r}; there are {', '.join(CASES)}")
    words.names = words.names or list(CASES)
    found = shutil.which(words.rrq)
    if found is None or not (Path(found).absolute().parent / "rrq-runner").exists():
        parser.error(f"--rrq: {words.rrq} is no interpreter with an rrq-runner beside it")
    words.rrq = Path(found).absolute()
    return words


if __name__ == "__main__":
    sys.exit(main())
