"""Samples of stacks as text, as a list and as a picture; and the looks that bring them."""

from __future__ import annotations

import asyncio
import re
import threading
from xml.etree import ElementTree

import pytest

from rrqd import flame
from rrqd.runner import ExecutionContext, ExecutionRequest
from rrqd.runtime.sampling import WAITING, one_job, sample, whole_worker

STACKS = {("main", "a<b>", "sum"): 6, ("main", "a<b>"): 3, ("main", "c"): 990, ("main", "c", "tiny"): 1}


def test_the_collapsed_form_goes_both_ways() -> None:
    text = flame.collapsed(STACKS)

    assert text.splitlines()[:2] == ["main;c 990", "main;a<b>;sum 6"]
    assert flame.read_collapsed(text) == STACKS
    with pytest.raises(ValueError, match="invalid literal"):
        flame.read_collapsed("Traceback (most recent call last):")


def test_what_took_most_itself_comes_first_and_recursion_counts_once() -> None:
    assert flame.top(STACKS, 2) == [("c", 990, 991), ("sum", 6, 6)]
    assert flame.top({("f", "g", "f"): 2}, 5) == [("f", 2, 2), ("g", 0, 2)]


def test_the_picture_is_xml_with_frames_as_wide_as_they_took() -> None:
    root = ElementTree.fromstring(flame.svg(STACKS, "1 & 2"))
    frames = {one.attrib["data-l"]: one for one in root.iter("{http://www.w3.org/2000/svg}g")}

    assert frames.keys() == {"main", "a<b>", "sum", "c", "tiny"}
    assert [float(frames[name].attrib["data-w"]) for name in ("main", "c")] == [1200.0, 1189.2]
    assert frames["a<b>"][0].text == "a<b>: 9 of 1000 samples, 0.9%"
    assert float(frames["sum"][1].attrib["y"]) > float(frames["main"][1].attrib["y"])
    assert "1 & 2" in [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "tiny" not in flame.svg({("long",): 100_000, ("tiny",): 1}, "left out")
    assert ElementTree.fromstring(flame.svg({}, "nothing")) is not None


def busy(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


def test_threads_that_compute_are_seen_and_those_that_wait_on_demand() -> None:
    stop, never = threading.Event(), threading.Event()
    threads = [threading.Thread(target=busy, args=(stop,)), threading.Thread(target=never.wait, name="idle")]
    for thread in threads:
        thread.start()
    try:
        found = sample(whole_worker(idle=False), 0.3, 200)
        with_idle = sample(whole_worker(idle=True), 0.05, 200)
    finally:
        stop.set()
        never.set()
        for thread in threads:
            thread.join()

    assert found.looks > 3
    assert all(any("busy (" in label for label in stack) for stack in found.stacks if "Event.wait" not in str(stack))
    (label,) = {label for stack in found.stacks for label in stack if label.startswith("busy (")}
    assert re.fullmatch(r"busy \(tests/unit/test_flame\.py:\d+\)", label)
    assert any("Event.wait" in stack[-2] for stack in with_idle.stacks if len(stack) > 1)


async def test_a_job_is_looked_at_while_it_waits_until_it_ends() -> None:
    loop, go_on, looking = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    async def inner() -> None:
        await go_on.wait()

    async def handler() -> None:
        await inner()

    task = asyncio.create_task(handler(), name="job:a")
    await asyncio.sleep(0)
    look = one_job("a", loop)

    def looked() -> object:
        found = look()
        looking.set()
        return found

    sampling = asyncio.create_task(asyncio.to_thread(sample, looked, 20.0, 100.0))  # type: ignore[arg-type]
    await asyncio.to_thread(looking.wait)
    go_on.set()
    await task
    found = await sampling

    assert found.seconds < 20
    (stack, *_) = found.stacks
    assert [label.partition(" ")[0].rpartition(".")[2] for label in stack[:2]] == ["handler", "inner"]
    assert stack[-1] == WAITING
    with pytest.raises(LookupError, match="job b waits for a thread"):
        one_job("b", loop)


async def test_a_plain_job_is_looked_at_from_its_handler_on() -> None:
    from datetime import UTC, datetime

    context = ExecutionContext(job_id="p", attempt=1, enqueue_time=datetime.now(UTC), queue_name="rrq:queue:q")
    request = ExecutionRequest(request_id="p", job_id="p", function_name="plain", context=context)
    began, over = threading.Event(), threading.Event()

    def plain(request: ExecutionRequest) -> None:
        began.set()
        over.wait()

    thread = threading.Thread(target=plain, args=(request,))
    thread.start()
    began.wait()
    look = one_job("p", asyncio.get_running_loop())
    ((stack),) = look() or ()
    over.set()
    thread.join()

    assert "plain" in stack[0] or "run" in stack[0]
    assert any(".plain (" in label for label in stack)
    assert look() is None
