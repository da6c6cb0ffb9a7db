"""Every key of `[rrqd.web]`: the dashboard and the JSON API, and who may use them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rrqd.config.fields import Table

Role = Literal["viewer", "operator"]


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


def _prefix(prefix: str) -> str:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError('must begin with a slash and not end with one: "/jobs"')
    return prefix


class WebSettings(Table):
    """`[rrqd.web]`. Metrics and health need none of it."""

    dashboard: bool = Field(default=True, description="Serve the dashboard at / and the JSON API at /api/v1.")
    local_role: Literal["none", "viewer", "operator"] = Field(
        default="operator",
        description="What visitors without credentials may do when rrqd.http is a loopback address: nothing, look, or "
        "act. On any other address they may do nothing.",
    )
    tokens_file: Annotated[str, AfterValidator(_absolute)] | None = Field(
        default=None,
        description='File with a line "role name token" for each visitor (role: viewer or operator). The token is sent '
        "as a bearer token, or as the password of basic authentication.",
    )
    proxy_header: str | None = Field(
        default=None,
        min_length=1,
        description="Header in which a proxy names the visitor that it has authenticated; needs proxies.",
    )
    proxies: list[str] = Field(default_factory=list, description="Addresses whose proxy_header is believed.")
    proxy_role: Role = Field(default="viewer", description="What visitors named by a proxy may do.")
    path_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="", description="Path under which a proxy shows the dashboard to the outside."
    )
    hidden_params: list[str] = Field(
        default_factory=lambda: ["password", "passwd", "secret", "token", "api_key", "authorization"],
        description="Names of parameters and results, at any depth, whose values are not shown.",
    )
