"""Free ports for far ends and for the service under test."""

import itertools
import os
import socket

# Below the kernel's ephemeral range, another stretch for each test process.
_next = itertools.count(20_000 + (os.getpid() * 64) % 9_000, 2)


def free_port(tcp: bool = False, count: int = 1) -> int:
    """The first of `count` ports in a row that nobody has now; even."""
    while True:
        first = 20_000 + (next(_next) - 20_000) % 10_000
        if all(_is_free(port, kind) for port in range(first, first + count) for kind in _kinds(tcp)):
            for _ in range(count // 2):
                next(_next)
            return first


def _kinds(tcp: bool) -> tuple[socket.SocketKind, ...]:
    return (socket.SOCK_STREAM, socket.SOCK_DGRAM) if tcp else (socket.SOCK_DGRAM,)


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
