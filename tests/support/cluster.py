"""A Valkey Cluster of three nodes without replicas, of the bundled server."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from rrqd.store.finding import SLOTS
from tests.support.server import Server, free_port
from tests.support.wait import until

NODES = 3


class Cluster:
    """``nodes`` in the order of their slots, a third of them each."""

    def __init__(self, nodes: list[Server]) -> None:
        self.nodes = nodes

    def owner(self, slot: int) -> Server:
        """The node that serves the slot now."""
        return next(node for node in self.nodes if self._serves(node, slot))

    def move(self, slot: int, to: Server) -> None:
        """Give a slot and all its keys to another node while everything runs; answers when all nodes know it."""
        name = ask(to, "CLUSTER", "MYID").split(b"\r\n")[1].decode()
        said = ask(self.owner(slot), "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", str(slot), str(slot), "NODE", name)
        assert said.startswith(b"+OK"), said
        until(lambda: self._serves(to, slot), 20, f"slot {slot} to have moved")
        until(lambda: all(self._points(node, slot, to) for node in self.nodes), 20, "all nodes to know it")

    def _serves(self, node: Server, slot: int) -> bool:
        return self._points(node, slot, node)

    def _points(self, node: Server, slot: int, to: Server) -> bool:
        """Whether ``node`` believes that ``to`` has the slot."""
        mark = f":{to.port}@"
        for line in ask(node, "CLUSTER", "NODES").decode().splitlines():
            words = line.split()
            if len(words) > 8 and mark in words[1]:
                spans = [word.split("-") for word in words[8:] if not word.startswith("[")]
                return any(int(span[0]) <= slot <= int(span[-1]) for span in spans)
        return False


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Formed and ready."""
    with contextlib.ExitStack() as stack:
        buses = [free_port() for _ in range(NODES)]
        nodes = []
        for bus in buses:
            node = Server("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000")
            stack.callback(node.remove)
            nodes.append(node)
        share = SLOTS // NODES + 1
        for number, node in enumerate(nodes):
            last = min((number + 1) * share, SLOTS) - 1
            ask(node, "CLUSTER", "ADDSLOTSRANGE", str(number * share), str(last))
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            if number:
                ask(node, "CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port), str(buses[0]))
        formed = Cluster(nodes)
        until(lambda: all(_is_whole(node) for node in nodes), 20, "the cluster to form")
        yield formed


def _is_whole(node: Server) -> bool:
    said = ask(node, "CLUSTER", "INFO")
    return b"cluster_state:ok" in said and b"cluster_known_nodes:%d" % NODES in said


def ask(node: Server, *words: str) -> bytes:
    """One command to one node, as an array, so that empty words can be sent; the raw reply."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as link:
        packed = b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
        link.sendall(b"*%d\r\n%s" % (len(words), packed))
        return link.recv(65536)
