"""Watching over processes.

Observed state and desired state go into `decisions.decide`, a pure function; out come actions, and a thin kernel
adapter carries them out. Nothing in the master ever waits for one thing alone.

* ``children``   the table: who is there, who should be; no I/O
* ``decisions``  table + now -> actions; no I/O
* ``messages``   what master and children say to each other
* ``process``    the system calls
* ``signals`` ``systemd`` ``embedded``  three neighbours of the master
* ``house``      moving in: locks, sockets, the embedded server's place
* ``acts``       actions become system calls
* ``watch``      workers' beats, and stacks of those that stopped beating
* ``reloads``    a new generation, or nothing
* ``view``       the master's view as data, for the web process
* ``master``     the loop
* ``child``      a child's first lines: which role it has, and that role's beginning
* ``mold``       the process that workers are forked from
"""
