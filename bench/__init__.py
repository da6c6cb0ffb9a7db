"""Benchmarks of rrqd, and of the real rrq beside it where that is fair. Run from the root of the repository::

    python -m bench                              # all of them
    python -m bench drain latency --repeat 5 --rrq /path/to/a/python/that/has/rrq --json result.json

====================  ==============================================================================================
``enqueue``           how fast an application puts jobs in
``drain``             how fast two worker processes empty a full queue, and what a job costs
``latency``           how long an idle system takes from the enqueue call to the handler's first line
``idle``              what a node costs that has nothing to do
``memory``            what one worker more costs when the code is heavy
``scale``             what single calls cost the server when there is much of everything (only when it is named)
====================  ==============================================================================================

Not measured but looked at: ``python -m bench.soak`` (what rrqd bears) and ``python -m bench.judge`` (RRQ's known
defects, in the real one and here).

Reading order: ``sheet`` (what is written down), ``server`` and ``daemon`` (what is measured), then the benchmarks,
each one file. ``handlers`` and ``application`` are the user's side; both run under rrqd and under the real rrq.

Rules of the house:

* Everything runs on a server of our own, on a private port, in a temporary folder; nothing is left behind, and only
  processes that were started here are ended.
* Where two things are compared, they take turns in the same run, in the same way, on the same kind of server. Absolute
  numbers belong to the machine and to the moment; the ratios last.
* A figure is the median of the repeats, with the lowest and the highest beside it.
"""
