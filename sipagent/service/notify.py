"""What the service tells systemd (sd_notify(3)): one datagram each; without $NOTIFY_SOCKET nothing happens."""

import os
import socket
from collections.abc import Mapping


def send(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send assignments such as "READY=1"; False when there is nobody to tell."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract name space
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(message.encode(), address)
        except OSError:
            return False  # a full or vanished socket must not stop calls; the watchdog will tell
    return True


def ready(status: str = "") -> bool:
    """Started: transports are bound."""
    return send(f"READY=1\nSTATUS={_line(status)}" if status else "READY=1")


def stopping(status: str = "draining") -> bool:
    """On the way out."""
    return send(f"STOPPING=1\nSTATUS={_line(status)}")


def status(text: str) -> bool:
    """One line for `systemctl status`."""
    return send(f"STATUS={_line(text)}")


def watchdog() -> bool:
    """Alive; to be sent twice within `watchdog_seconds`."""
    return send("WATCHDOG=1")


def extend_timeout(seconds: float) -> bool:
    """Ask for this much more time to start or stop, counted from now."""
    return send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float:
    """How long systemd waits between two `watchdog` messages of this process; 0 = it does not watch."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0


def _line(text: str) -> str:
    return text.replace("\n", " ")
