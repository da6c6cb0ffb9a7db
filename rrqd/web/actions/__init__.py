"""What can be done from a page or over the API: one table, filled by the rooms.

shape     what an action is, and whether what was said fits it
one_job   cancel, retry, requeue with other parameters, priority, tags, track, delete
many      the same for chosen jobs, for buried ones by filter, and clearing a queue
matching  the same for all that a filter means, in whatever state
rules     queues, throttles, the timetable, recurring jobs
pools     the processes of this machine
"""

from __future__ import annotations

from rrqd.web.actions import many, matching, one_job, pools, rules
from rrqd.web.actions.shape import ACTIONS, Action, Field, Hands, Refused, check

__all__ = ["ACTIONS", "Action", "Field", "Hands", "Refused", "check", "many", "matching", "one_job", "pools", "rules"]
