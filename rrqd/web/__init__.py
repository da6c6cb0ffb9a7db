"""HTTP: metrics, health, the JSON API and the dashboard.

For programs that show the dashboard themselves: :func:`dashboard` makes an ASGI app, :class:`Visitor` says who comes
in. Handed out lazily: the daemon's own web process needs none of what a foreign program does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrqd.lazily import lazily

if TYPE_CHECKING:  # for type checkers, which do not ask __getattr__
    from rrqd.web.access import Visitor as Visitor
    from rrqd.web.mounted import Dashboard as Dashboard
    from rrqd.web.mounted import dashboard as dashboard

_PUBLIC = {"Visitor": "access", "Dashboard": "mounted", "dashboard": "mounted"}

__all__ = [*_PUBLIC]

__getattr__ = lazily(__name__, _PUBLIC)
