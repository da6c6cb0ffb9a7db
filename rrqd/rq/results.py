"""Where RQ has what an end of a job left."""

from rrqd.rq.job import Result

__all__ = ["Result"]
