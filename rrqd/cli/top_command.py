"""``rrqd top``: the daemon in a terminal, through its JSON API. What is drawn, and what keys mean: `top_screen`."""

from __future__ import annotations

import curses
import json
import os
import queue
import sys
import threading
import urllib.error
import urllib.request
from collections import deque
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import click

from rrqd.cli.daemon_line import address_of, status_of
from rrqd.cli.invocation import Invocation, config_option
from rrqd.cli.output import complain
from rrqd.cli.top_screen import TABS, Data, Line, Screen, Wish, lines, press
from rrqd.clock import monotonic

HTTP_SECONDS = 5.0
KEY_MS = 200
PACE_SECONDS = 1.0
"""Runs are counted over so long at least: looks that a key asked for come close together."""
NAMES = {
    curses.KEY_UP: "up", curses.KEY_DOWN: "down", curses.KEY_LEFT: "left", curses.KEY_RIGHT: "right",
    curses.KEY_HOME: "home", curses.KEY_END: "end", curses.KEY_ENTER: "enter", curses.KEY_BACKSPACE: "backspace",
}  # fmt: skip


class Refused(Exception):
    """The API said no, or nothing. One sentence."""


class Api:
    """The daemon's JSON API at an address. `token`: sent as a bearer token when there is one."""

    def __init__(self, base: str, token: str | None) -> None:
        self.base = base.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        # Not through a proxy, whatever the environment says.
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def view(self, name: str) -> dict[str, Any]:
        return self._ask(f"{self.base}/api/v1/{name}", None)

    def act(self, wish: Wish) -> dict[str, Any]:
        return self._ask(f"{self.base}/api/v1/actions/{wish.action}", json.dumps(wish.words).encode())

    def _ask(self, url: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(url, body, {"content-type": "application/json", **self._headers})
        try:
            with self._direct.open(request, timeout=HTTP_SECONDS) as answer:
                data = json.load(answer)
        except urllib.error.HTTPError as fault:
            raise Refused(_reason(fault)) from None
        except (OSError, ValueError) as fault:
            raise Refused(f"{self.base} does not answer: {getattr(fault, 'reason', fault)}") from None
        assert isinstance(data, dict)
        return data


def _reason(fault: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(fault)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {fault.code}"


class Watcher(threading.Thread):
    """Asks again and again for the overview and the view that is shown; a new one is asked for at once."""

    def __init__(self, api: Api, seconds: float) -> None:
        super().__init__(name="top", daemon=True)
        self.api = api
        self.data = Data()
        self.place = TABS[0]
        self._seconds = seconds
        self._again = threading.Event()

    def look_at(self, place: str) -> None:
        self.place = place
        self._again.set()

    def run(self) -> None:
        counted: deque[tuple[float, int, int]] = deque(maxlen=2)
        while True:
            place = self.place
            try:
                view, overview = self.api.view(place), self.api.view("overview")
                totals = overview["totals"]
                if not counted or monotonic() - counted[-1][0] >= PACE_SECONDS:
                    counted.append((monotonic(), totals["completed"], totals["failed"]))
                lists = {name: self.data.views[name] for name in TABS if name in self.data.views}
                self.data = Data(overview, {**lists, place: view}, pace=_pace(*counted) if len(counted) == 2 else None)
            except Refused as fault:
                self.data = replace(self.data, fault=str(fault))
            self._again.wait(self._seconds)
            self._again.clear()


def _pace(before: tuple[float, int, int], now: tuple[float, int, int]) -> tuple[float, float]:
    """Completed and failed runs a second. (A daemon that was started anew counts from nothing.)"""
    seconds = now[0] - before[0]
    return max(0, now[1] - before[1]) / seconds, max(0, now[2] - before[2]) / seconds


@click.command("top")
@click.option(
    "--url", metavar="URL", help="The daemon to look at. Left out: that of the configuration, on this machine."
)
@click.option(
    "--every", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds between looks."
)
@config_option
@click.pass_obj
def top(invocation: Invocation, url: str | None, every: float) -> int:
    """Show queues, running jobs, failures and workers, live, and act on them.

    Needs a terminal of 40 columns and 8 lines. A token for another machine's daemon is taken from RRQD_TOKEN.
    """
    if url is None:
        address = address_of(invocation, status_of(invocation))
        if address in ("", "off"):
            raise click.UsageError('rrqd.http is "off": there is nothing to ask')
        url = f"http://{address}"
    if urlsplit(url).scheme not in ("http", "https"):
        raise click.UsageError(f"{url} is no http address")
    api = Api(url, os.environ.get("RRQD_TOKEN"))
    try:
        api.view("overview")
    except Refused as fault:
        complain(f"rrqd: {fault}")
        return 69
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        complain("rrqd: top needs a terminal; rrqd status --json is for programs")
        return 1
    curses.wrapper(_turn, Watcher(api, every))
    return 0


def _turn(window: curses.window, watcher: Watcher) -> None:
    """The loop: draw, wait for a key or a fifth of a second, do what the key says."""
    _prepare(window)
    watcher.start()
    screen, answers = Screen(), queue.SimpleQueue[str]()
    while not screen.over:
        while not answers.empty():
            screen = replace(screen, said=answers.get())
            watcher.look_at(screen.about or screen.tab)
        _draw(window, lines(screen, watcher.data, *reversed(window.getmaxyx())))
        key = _key(window)
        if key is None:
            continue
        screen, wish = press(screen, key, watcher.data)
        if watcher.place != (screen.about or screen.tab):
            watcher.look_at(screen.about or screen.tab)
        if wish is not None:
            threading.Thread(target=_carry_out, args=(watcher.api, wish, answers), daemon=True).start()


def _carry_out(api: Api, wish: Wish, answers: queue.SimpleQueue[str]) -> None:
    try:
        answers.put(f"{wish.action}: {api.act(wish)['count']} changed")
    except Refused as fault:
        answers.put(f"not done: {fault}")


def _prepare(window: curses.window) -> None:
    curses.curs_set(0)
    curses.set_escdelay(50)  # ms
    window.timeout(KEY_MS)
    if curses.has_colors() and not os.environ.get("NO_COLOR"):
        curses.use_default_colors()
        curses.init_pair(1, curses.COLOR_RED, -1)


def _key(window: curses.window) -> str | None:
    try:
        key = window.get_wch()
    except curses.error:  # nothing was pressed
        return None
    except KeyboardInterrupt:
        return "q"
    return key if isinstance(key, str) else NAMES.get(key)


def _draw(window: curses.window, drawn: list[Line]) -> None:
    styles = {
        "title": curses.A_BOLD, "head": curses.A_BOLD, "selected": curses.A_REVERSE, "faint": curses.A_DIM,
        "bad": curses.color_pair(1) | curses.A_BOLD,
    }  # fmt: skip
    window.erase()
    height, _ = window.getmaxyx()
    for at, line in enumerate(drawn[:height]):
        try:
            window.addstr(at, 0, line.text, styles.get(line.style, 0))
        except curses.error:  # the last corner can't be written to without scrolling
            continue
    window.refresh()
