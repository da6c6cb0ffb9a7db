"""HTTP: metrics, health, the JSON API and the dashboard.

For programs that show the dashboard themselves: :func:`dashboard` makes an ASGI app, :class:`Visitor` says who comes
in. Handed out lazily: the daemon's own web process needs none of what a foreign program does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers, which do not ask __getattr__
    from rrqd.web.access import Visitor as Visitor
    from rrqd.web.mounted import Dashboard as Dashboard
    from rrqd.web.mounted import dashboard as dashboard

_PUBLIC = {"Visitor": "rrqd.web.access", "Dashboard": "rrqd.web.mounted", "dashboard": "rrqd.web.mounted"}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'rrqd.web' has no attribute {name!r}")
