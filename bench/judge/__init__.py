"""Is it true? Each defect that docs/migrating-from-rrq.md lists, provoked in the real rrq and in rrqd, by the same
steps. Run from the root of the repository::

    python -m bench.judge --rrq /path/to/a/python/that/has/rrq
    python -m bench.judge --rrq … W01 W17 --markdown

A *case* is a function of a ``Side``: it starts one side's worker on a server of its own, does what provokes the defect,
and answers a ``Finding``: what was seen, and whether that is as it should be. The exit code is 1 when the real one
behaves (then the page is wrong) or rrqd does not.

Reading order: ``side``, then the cases: ``working`` (a worker and its jobs), ``runners``, ``asking`` (clients),
``commands``.
"""
