"""RQ's names for the two ways of writing arguments: ``Queue(serializer=JSONSerializer)``. See ``docs/handlers.md``."""

from __future__ import annotations


class JSONSerializer:
    """JSON that brings values back as they were: the usual way here."""


class DefaultSerializer:
    """RQ's usual way, a pickle; signed."""
