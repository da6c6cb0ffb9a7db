"""The flight recorder: what every worker is doing, in memory that outlives it.

Rules of this file:

* One memfd, 64 KiB for each slot. A page has **one** writer, the process in the slot; anybody may read.
* A page is an accumulator. `begin` resets the header and the rows of running jobs, never counters or
  tallies: the next process in the slot goes on counting, so `kill -9` loses nothing that was counted.
* For diagnosis and metrics only. The truth about who holds which job is in the store.
* Numbers are aligned 8-byte words stored one at a time, so a reader never sees half a number. A text may be
  seen half written; what makes it valid (the row's `used` word) is stored after it.

A page, in bytes::

    0      header: 64 words, then 64 words of counters           1 KiB
    1024   texts: worker id, pool, suspect                       3 KiB
    4096   64 rows of running jobs, 256 bytes each               16 KiB
    20480  100 tallies, 448 bytes each                           44.8 KiB
"""

from __future__ import annotations

import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Iterator

from rrqd.flight_records import Counter, FlightState, PageSnapshot, RunningRow, Tally

__all__ = [
    "Counter",
    "FlightDeck",
    "FlightPage",
    "FlightState",
    "PageSnapshot",
    "RunningRow",
    "Tally",
]

PAGE_BYTES = 65_536
ROWS = 64
TALLIES = 100
MAGIC = 0x72727164_00000001  # "rrqd", layout 1

BUCKETS_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""Upper bounds of the histograms' buckets; a last one, +Inf, follows."""
BUCKETS = len(BUCKETS_SECONDS) + 1
OTHER = "other"
"""The function under which runs are counted once the table of tallies is full."""

# words of the header
_MAGIC, _PID, _GENERATION, _SLOT, _STATE, _RUNNING, _BEGUN = range(7)
_BEAT_LOOP, _BEAT_THREAD, _INCARNATIONS = 7, 8, 9
_COUNTERS = 64
# texts: (offset, room in bytes, two of which hold the length)
_WORKER_ID, _POOL, _SUSPECT = (1024, 512), (1536, 256), (1792, 512)
_ROWS_AT, _ROW_BYTES, _ROW_WORDS = 4096, 256, 32
_R_USED, _R_TOKEN, _R_STARTED, _R_DEADLINE = range(4)
_R_JOB, _R_FUNCTION, _R_QUEUE = (32, 128), (160, 64), (224, 32)
_R_LABELS = (160, 256)  # the two last, next to each other
_TALLIES_AT, _TALLY_BYTES = 20480, 448
_T_USED, _T_COUNT, _T_WAIT_SUM, _T_RUN_SUM = range(4)
_T_WAITS, _T_RUNS = 4, 4 + BUCKETS
_T_FUNCTION, _T_QUEUE, _T_OUTCOME = (304, 80), (384, 48), (432, 16)


_STATES = list(FlightState)
_STATE_NUMBER = {state.value: number for number, state in enumerate(_STATES)}


class FlightPage:
    """One slot's page. Made by `FlightDeck.page`; the methods that write belong to the slot's process."""

    def __init__(self, deck: FlightDeck, index: int) -> None:
        self.index = index
        self._deck = deck  # keeps the mapping alive
        whole = memoryview(deck.memory)[index * PAGE_BYTES : (index + 1) * PAGE_BYTES]
        self._bytes = whole
        self._words = whole.cast("Q")
        self._floats = whole.cast("d")
        self._free = list(range(ROWS - 1, -1, -1))
        self._labels: dict[tuple[str, str], bytes] = {}
        self._places: dict[tuple[str, str, str], int] = {}
        self._used_tallies = 0

    # -- writing ---------------------------------------------------------------------------------------

    def begin(self, pid: int, worker_id: str, pool: str, slot: int, generation: int) -> None:
        """A new process moves in. Rows of its predecessor are cleared, tallies and counters stay."""
        words = self._words
        for row in range(ROWS):
            words[(_ROWS_AT + row * _ROW_BYTES) // 8 + _R_USED] = 0
        self._free = list(range(ROWS - 1, -1, -1))
        words[_STATE] = _STATE_NUMBER["booting"]
        words[_BEAT_LOOP] = words[_BEAT_THREAD] = words[_RUNNING] = 0
        words[_BEGUN] = time.monotonic_ns()
        words[_PID], words[_GENERATION], words[_SLOT] = pid, generation, slot
        _put(self._bytes, 0, _WORKER_ID, worker_id)
        _put(self._bytes, 0, _POOL, pool)
        _put(self._bytes, 0, _SUSPECT, "")
        words[_INCARNATIONS] += 1
        self._find_places()
        words[_MAGIC] = MAGIC

    def _find_places(self) -> None:
        self._places = {}
        self._used_tallies = 0
        for index in range(TALLIES):
            if not self._words[(_TALLIES_AT + index * _TALLY_BYTES) // 8]:
                break
            self._places[self._tally_key(index)] = index
            self._used_tallies = index + 1

    def beat_loop(self, now_ns: int) -> None:
        """The event loop is turning. `now_ns`: monotonic."""
        self._words[_BEAT_LOOP] = now_ns

    def beat_thread(self, now_ns: int) -> None:
        """The watchdog thread is running, so the interpreter is not held. `now_ns`: monotonic."""
        self._words[_BEAT_THREAD] = now_ns

    def set_state(self, state: str) -> None:
        """One of `FlightState`; KeyError for any other word."""
        self._words[_STATE] = _STATE_NUMBER[str(state)]

    def set_running(self, count: int) -> None:
        """How many jobs are aboard."""
        self._words[_RUNNING] = count

    def set_suspect(self, job_id: str | None) -> None:
        """The job that seems to block the loop, or None again."""
        _put(self._bytes, 0, _SUSPECT, job_id or "")

    def start(self, job_id: str, token: int, function: str, queue: str, deadline_ns: int) -> int:
        """A job begins. Returns its row for `finish`, -1 when all 64 rows are taken (it still runs).

        `deadline_ns` is monotonic; 0 means no limit. Called by one thread only.
        """
        if not self._free:
            return -1
        row = self._free.pop()
        at = _ROWS_AT + row * _ROW_BYTES
        _put(self._bytes, at, _R_JOB, job_id)
        labels = self._labels.get((function, queue)) or self._new_labels(function, queue)
        self._bytes[at + _R_LABELS[0] : at + _R_LABELS[1]] = labels
        words, word = self._words, at >> 3
        words[word + _R_TOKEN] = token
        words[word + _R_STARTED] = time.monotonic_ns()
        words[word + _R_DEADLINE] = deadline_ns
        words[word + _R_USED] = 1
        return row

    def _new_labels(self, function: str, queue: str) -> bytes:
        """The two texts as they lie in a row, side by side; there are few of them, and each job needs some."""
        block = memoryview(bytearray(_ROW_BYTES))
        _put(block, 0, _R_FUNCTION, function)
        _put(block, 0, _R_QUEUE, queue)
        labels = bytes(block[_R_LABELS[0] : _R_LABELS[1]])
        if len(self._labels) < 1024:
            self._labels[function, queue] = labels
        return labels

    def set_deadline(self, row: int, deadline_ns: int) -> None:
        """The job of this row has begun later than it was written down. -1 is allowed and does nothing."""
        if row >= 0:
            self._words[((_ROWS_AT + row * _ROW_BYTES) >> 3) + _R_DEADLINE] = deadline_ns

    def finish(self, row: int) -> None:
        """The job of this row has ended. -1 is allowed and does nothing."""
        if row >= 0:
            self._words[((_ROWS_AT + row * _ROW_BYTES) >> 3) + _R_USED] = 0
            self._free.append(row)

    def add(self, counter: Counter, n: int = 1) -> None:
        """Count `n` more of something."""
        self._words[_COUNTERS + counter] += n

    def tally(self, queue: str, function: str, outcome: str, wait_seconds: float, run_seconds: float) -> None:
        """One run has ended: how long the job had waited and how long it ran."""
        place = self._places.get((queue, function, outcome))
        if place is None:
            place = self._new_place(queue, function, outcome)
            if place < 0:
                return
        words, word = self._words, (_TALLIES_AT + place * _TALLY_BYTES) >> 3
        words[word + _T_COUNT] += 1
        self._floats[word + _T_WAIT_SUM] += wait_seconds
        self._floats[word + _T_RUN_SUM] += run_seconds
        words[word + _T_WAITS + bisect_left(BUCKETS_SECONDS, wait_seconds)] += 1
        words[word + _T_RUNS + bisect_left(BUCKETS_SECONDS, run_seconds)] += 1

    def _new_place(self, queue: str, function: str, outcome: str) -> int:
        # The last places are kept for "other", one for each outcome, so that nothing goes uncounted when
        # somebody invents function names.
        reserved = 8 if function != OTHER else 0
        if self._used_tallies >= TALLIES - reserved:
            if function == OTHER and queue == OTHER:
                return -1
            place = self._places.get((OTHER, OTHER, outcome))
            place = self._new_place(OTHER, OTHER, outcome) if place is None else place
            if len(self._places) < 4096:
                self._places[queue, function, outcome] = place
            return place
        place = self._used_tallies
        at = _TALLIES_AT + place * _TALLY_BYTES
        for room, text in ((_T_FUNCTION, function), (_T_QUEUE, queue), (_T_OUTCOME, outcome)):
            _put(self._bytes, at, room, text)
        self._words[at >> 3] = 1
        self._used_tallies += 1
        self._places[queue, function, outcome] = place
        return place

    # -- reading ---------------------------------------------------------------------------------------

    def snapshot(self) -> PageSnapshot:
        """Everything in the header, and the counters by name."""
        words = self._words
        state = words[_STATE]
        return PageSnapshot(
            index=self.index,
            pid=words[_PID],
            worker_id=_get(self._bytes, 0, _WORKER_ID),
            pool=_get(self._bytes, 0, _POOL),
            slot=words[_SLOT],
            generation=words[_GENERATION],
            state=_STATES[state].value if state < len(_STATES) else FlightState.EMPTY.value,
            running=words[_RUNNING],
            begun_ns=words[_BEGUN],
            beat_loop_ns=words[_BEAT_LOOP],
            beat_thread_ns=words[_BEAT_THREAD],
            incarnations=words[_INCARNATIONS],
            suspect=_get(self._bytes, 0, _SUSPECT),
            counters={counter.label: words[_COUNTERS + counter] for counter in Counter},
        )

    def begun(self) -> bool:
        """True once a process has lived here."""
        return self._words[_MAGIC] == MAGIC

    def count(self, counter: Counter) -> int:
        """One counter."""
        return self._words[_COUNTERS + counter]

    def beats(self) -> tuple[int, int]:
        """(loop beat, thread beat) in monotonic ns, 0 for none yet. Cheaper than a snapshot."""
        return self._words[_BEAT_LOOP], self._words[_BEAT_THREAD]

    def running(self) -> list[RunningRow]:
        """The jobs that run now, or ran when the process died."""
        rows = []
        for index in range(ROWS):
            at = _ROWS_AT + index * _ROW_BYTES
            word = at >> 3
            if self._words[word + _R_USED]:
                rows.append(
                    RunningRow(
                        job_id=_get(self._bytes, at, _R_JOB),
                        token=self._words[word + _R_TOKEN],
                        function=_get(self._bytes, at, _R_FUNCTION),
                        queue=_get(self._bytes, at, _R_QUEUE),
                        started_ns=self._words[word + _R_STARTED],
                        deadline_ns=self._words[word + _R_DEADLINE],
                    )
                )
        return rows

    def tallies(self) -> list[Tally]:
        """All tallies, in the order of their first appearance."""
        found = []
        for index in range(TALLIES):
            word = (_TALLIES_AT + index * _TALLY_BYTES) >> 3
            words = self._words
            if not words[word]:
                break
            queue, function, outcome = self._tally_key(index)
            found.append(
                Tally(
                    queue=queue,
                    function=function,
                    outcome=outcome,
                    count=words[word + _T_COUNT],
                    wait_seconds_sum=self._floats[word + _T_WAIT_SUM],
                    run_seconds_sum=self._floats[word + _T_RUN_SUM],
                    waits=tuple(words[word + _T_WAITS : word + _T_WAITS + BUCKETS]),
                    runs=tuple(words[word + _T_RUNS : word + _T_RUNS + BUCKETS]),
                )
            )
        return found

    def _tally_key(self, index: int) -> tuple[str, str, str]:
        at = _TALLIES_AT + index * _TALLY_BYTES
        return (
            _get(self._bytes, at, _T_QUEUE),
            _get(self._bytes, at, _T_FUNCTION),
            _get(self._bytes, at, _T_OUTCOME),
        )

    def release(self) -> None:
        """Let go of the mapping (before the deck is closed)."""
        self._words.release()
        self._floats.release()
        self._bytes.release()


class FlightDeck:
    """All pages, behind one descriptor that children inherit."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        size = os.fstat(fd).st_size
        self.slots = size // PAGE_BYTES
        self.memory = mmap.mmap(fd, size)
        self._pages: dict[int, FlightPage] = {}

    @classmethod
    def create(cls, slots: int = 256) -> FlightDeck:
        """A fresh deck. The memory is sparse: a page costs nothing before it is written."""
        fd = os.memfd_create("rrqd-flight", os.MFD_CLOEXEC)
        os.ftruncate(fd, slots * PAGE_BYTES)
        return cls(fd)

    @classmethod
    def attach(cls, fd: int) -> FlightDeck:
        """The deck behind an inherited descriptor."""
        return cls(fd)

    def page(self, index: int) -> FlightPage:
        """The page of a slot. IndexError beyond the deck."""
        if not 0 <= index < self.slots:
            raise IndexError(f"flight page {index} of {self.slots}")
        if index not in self._pages:
            self._pages[index] = FlightPage(self, index)
        return self._pages[index]

    def begun(self) -> Iterator[FlightPage]:
        """The pages in which a process has lived, by index. Read through the descriptor, so that looking at
        an empty page does not make it take memory."""
        for index in range(self.slots):
            word = os.pread(self.fd, 8, index * PAGE_BYTES)
            if int.from_bytes(word, "little") == MAGIC:
                yield self.page(index)

    def close(self) -> None:
        """Unmap and close."""
        for page in self._pages.values():
            page.release()
        self._pages.clear()
        self.memory.close()
        os.close(self.fd)


def _put(page: memoryview, at: int, room: tuple[int, int], text: str) -> None:
    """Store a text: two bytes of length, then UTF-8, cut to what fits."""
    data = text.encode()
    size = len(data)
    if size > room[1] - 2:
        size = room[1] - 2
        data = data[:size]
    start = at + room[0]
    page[start : start + 2 + size] = size.to_bytes(2, "little") + data


def _get(page: memoryview, at: int, room: tuple[int, int]) -> str:
    start = at + room[0]
    size = min(page[start] | page[start + 1] << 8, room[1] - 2)
    return bytes(page[start + 2 : start + 2 + size]).decode("utf-8", "replace")
