"""Where we agree to send media: the address policy for c= and a=rtcp of the far end."""

import ipaddress
from dataclasses import dataclass
from typing import Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

LOWEST_PORT: Final = 1024  # never let a stranger aim packets at a system service


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """`allow` overrides every refusal by address, `deny` names further networks, such as those of our own API."""

    allow: tuple[IPNetwork, ...] = ()
    deny: tuple[IPNetwork, ...] = ()


def numeric(address: str) -> IPAddress | None:
    """The address, or None when it is a name, malformed or scoped (`fe80::1%eth0`)."""
    try:
        return None if "%" in address else ipaddress.ip_address(address)
    except ValueError:
        return None


def unspecified(address: str) -> bool:
    """0.0.0.0 or ::, the old way to say "hold" (RFC 3264 §8.4)."""
    parsed = numeric(address)
    return parsed is not None and parsed.is_unspecified


def refusal(address: str, port: int, local_address: str, policy: AddressPolicy) -> str:
    """Why media must not be sent there, "" when it may.

    Loopback is refused unless our own media address is a loopback address too.
    """
    remote, local = numeric(address), numeric(local_address)
    if remote is None:
        return "connection address is not numeric"
    if port < LOWEST_PORT:
        return f"port below {LOWEST_PORT}"
    if local is not None and local.version != remote.version:
        return "address family differs from ours"
    if isinstance(remote, ipaddress.IPv6Address) and remote.ipv4_mapped is not None:
        remote = remote.ipv4_mapped
    if any(remote.version == network.version and remote in network for network in policy.allow):
        return ""
    if any(remote.version == network.version and remote in network for network in policy.deny):
        return "address is denied"
    return _refused_kind(remote, loopback_allowed=local is not None and local.is_loopback)


def _refused_kind(remote: IPAddress, *, loopback_allowed: bool) -> str:
    if remote.is_multicast:
        return "multicast address"
    if remote.is_link_local:  # 169.254.169.254 is the metadata service of every cloud
        return "link-local address"
    if remote.is_unspecified:
        return "unspecified address"
    if remote.is_loopback:
        return "" if loopback_allowed else "loopback address"
    if remote.version == 4 and (remote.is_reserved or int(remote) >> 24 == 0):
        return "broadcast or reserved address"
    return ""
