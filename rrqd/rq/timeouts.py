"""Where RQ has its exception for a job whose time is over."""

from rrqd.rq.stopping import JobTimeoutException

__all__ = ["JobTimeoutException"]
