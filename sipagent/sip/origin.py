"""Where the requests of a dialog may come from (RFC 3261 §26.1.3): a forged BYE needs no more than tags."""

import ipaddress

from sipagent.sip import header
from sipagent.sip.dialog import Dialog


def may_come_from(dialog: Dialog, address: str) -> bool:
    """Whether the address is one of the dialog's: of its flow, of its route set or of its remote target.

    Only addresses are compared, never ports, so a NAT may move ours or theirs to another port. When the first route,
    or without routes the target, is a name, it may mean any number of addresses and nothing can be said against one.
    """
    uris = [header.parse_address(route).uri for route in dialog.routes] or [dialog.target]
    hosts = [header.host_port(uri)[0] for uri in (*uris, dialog.target)]
    if not header.is_numeric(hosts[0]):
        return True
    known = {_canonical(host) for host in (dialog.flow.remote[0], *hosts)}
    return _canonical(address) in known


def _canonical(host: str) -> str:
    """One spelling for all spellings of an address."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).compressed
    except ValueError:
        return host.lower()
