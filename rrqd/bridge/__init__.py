"""Handlers that live in another process: RRQ's socket protocol, spoken from both ends.

* ``protocol``  frames and messages; pure
* ``line``      one connection on a loop
* ``driver``    our end: calls, cancels, silence
* ``launch``    the runner's process: its port, its output, its end
* ``pool``      what a worker of a runner's pool is given in place of handlers
* ``server``    the other end; ``help``: for its handlers; ``serve``: its process (``rrqd runner``)
"""
