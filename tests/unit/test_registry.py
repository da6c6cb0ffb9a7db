"""Handlers are found under the name they were given; a request outside a worker says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from rrqd.registry import NO_POLICY, HandlerPolicy, Registry, is_async_callable
from rrqd.runner import ExecutionContext, ExecutionOutcome, ExecutionRequest
from rrqd.runner_settings import PythonRunnerSettings


def plain(request: ExecutionRequest) -> None: ...


async def awaited(request: ExecutionRequest) -> None: ...


class Plain:
    def __call__(self, request: ExecutionRequest) -> None: ...


class Awaited:
    async def __call__(self, request: ExecutionRequest) -> None: ...


def registered(name: str, handler: Callable[..., Any]) -> Registry:
    registry = Registry()
    registry.register(name, handler)
    return registry


def test_a_handler_is_found_under_its_name() -> None:
    registry = registered("send", plain)
    registry.register("load", awaited)

    assert registry.get_handler("send") is plain
    assert registry.get_handler("Send") is None
    assert registry.get_registered_functions() == ["send", "load"]
    assert ("send" in registry, "other" in registry, len(registry)) == (True, False, 2)
    assert [entry.name for entry in registry] == ["send", "load"]


def test_a_name_is_given_once_unless_it_is_to_be_replaced() -> None:
    registry = registered("send", plain)

    with pytest.raises(ValueError, match="'send' is already registered; pass replace=True"):
        registry.register("send", awaited)
    assert registry.get_handler("send") is plain
    registry.register("send", awaited, replace=True)
    assert registry.get_handler("send") is awaited


@pytest.mark.parametrize("name", ["", "  "])
def test_a_name_cannot_be_blank(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be blank"):
        registered(name, plain)


def test_a_handler_can_be_called() -> None:
    with pytest.raises(ValueError, match="Handler for 'send' must be a callable, not int"):
        registered("send", 5)  # type: ignore[arg-type]


def test_a_name_can_be_given_back() -> None:
    registry = registered("send", plain)

    registry.unregister("send")
    registry.unregister("send")

    assert registry.get("send") is None
    registered("send", plain).clear()
    assert len(registry) == 0


@pytest.mark.parametrize(
    ("handler", "is_async"), [(plain, False), (awaited, True), (Plain(), False), (Awaited(), True)]
)
def test_what_must_be_awaited_is_known(handler: Callable[..., Any], is_async: bool) -> None:
    entry = registered("x", handler).get("x")

    assert is_async_callable(handler) is is_async
    assert entry is not None
    assert entry.is_async is is_async


def test_the_decorator_takes_the_functions_own_name_or_another_and_gives_the_function_back() -> None:
    registry = Registry()

    assert registry.handler(plain) is plain
    assert registry.handler()(awaited) is awaited
    assert registry.handler("third")(plain) is plain

    assert registry.get_registered_functions() == ["plain", "awaited", "third"]


def test_the_decorator_notes_what_the_handler_says_about_its_jobs() -> None:
    registry = Registry()
    registry.handler("own", timeout_seconds=5, on_timeout="bury")(plain)
    registry.handler("usual")(plain)

    own, usual = registry.get("own"), registry.get("usual")
    assert own is not None
    assert usual is not None
    assert own.policy == HandlerPolicy(timeout_seconds=5, on_timeout="bury")
    assert usual.policy == NO_POLICY == HandlerPolicy()


def test_a_policy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="timeout_secs"):
        Registry().handler("send", timeout_secs=5)(plain)


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"timeout_seconds": "5"}, "timeout_seconds must be a number of seconds, not '5'"),
        ({"timeout_seconds": 0}, "timeout_seconds must be positive"),
        ({"retry_delay_seconds": -1}, "retry_delay_seconds must be a number of seconds, not -1"),
        ({"max_retry_delay_seconds": float("nan")}, "max_retry_delay_seconds must be a number of seconds, not nan"),
        ({"max_retries": 3.0}, "max_retries must be a whole number, not 3.0"),
        ({"on_timeout": "wait"}, "on_timeout must be 'retry' or 'bury', not 'wait'"),
    ],
)
def test_a_policy_that_cannot_be_obeyed_is_refused(policy: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Registry().handler("send", **policy)(plain)


def request_without_a_worker() -> ExecutionRequest:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    context = ExecutionContext(job_id="j", attempt=1, enqueue_time=moment, queue_name="rrq:queue:default")
    return ExecutionRequest(request_id="r", job_id="j", function_name="send", context=context)


@pytest.mark.parametrize(
    "use",
    [
        lambda request: request.sandbox,
        lambda request: request.log,
        lambda request: request.cancelled,
        lambda request: request.heartbeat(),
        lambda request: request.progress(0.5),
    ],
)
def test_what_only_a_worker_can_give_says_who_is_missing(use: Callable[[ExecutionRequest], Any]) -> None:
    with pytest.raises(RuntimeError, match="this request is not being run by a worker"):
        use(request_without_a_worker())


def test_a_request_built_by_hand_has_the_usual_rest() -> None:
    request = request_without_a_worker()

    assert (request.params, request.protocol_version, request.context.deadline) == ({}, "2", None)
    assert request_without_a_worker().params is not request.params
    assert ExecutionOutcome(status="success").result is None


def test_runner_settings_bring_a_registry_of_their_own() -> None:
    settings = PythonRunnerSettings()

    assert (len(settings.registry), settings.on_startup, settings.on_shutdown) == (0, None, None)
    assert PythonRunnerSettings().registry is not settings.registry


def test_runner_settings_take_nothing_else_for_a_registry() -> None:
    with pytest.raises(TypeError, match="registry must be a Registry, not dict"):
        PythonRunnerSettings(registry={})  # type: ignore[arg-type]
