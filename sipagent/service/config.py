"""The configuration: one TOML file, one frozen tree, defaults beside the fields."""

from typing import Any

import msgspec


class Sip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[sip]: the user agent."""

    engine: str = "native"  # native | pjsua2
    listen: tuple[str, ...] = ("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060")
    public_address: str = ""  # what the far end sees when we are behind NAT
    user_agent: str = "sipagent"
    accept_unknown_sources: bool = False  # INVITEs from addresses that belong to no trunk
    session_expires_seconds: int = 1800  # RFC 4028 §4.2
    keepalive_seconds: float = 30.0  # OPTIONS to each trunk, 0 = off
    tls_certificate: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    tls_verify: bool = True


class Trunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[trunk]]: a far end that sends and takes calls."""

    name: str
    server: str  # "sip:trunk.example;transport=tcp", "10.0.0.1:5060"
    username: str = ""
    auth_username: str = ""
    password: str = ""
    password_credential: str = ""  # name of a systemd credential that holds it
    domain: str = ""
    caller_id: str = ""
    register: bool = True
    expires: int = 300  # seconds asked for in REGISTER
    outbound_proxy: str = ""
    allow: tuple[str, ...] = ()  # addresses or networks that may send calls; () = those of the server
    codecs: tuple[str, ...] = ("G722", "PCMU", "PCMA")
    srtp: str = "off"  # off | optional | required


class Media(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[media]: RTP."""

    address: str = "0.0.0.0"
    ports: tuple[int, int] = (16000, 17998)
    planes: int = 1
    io: str = "auto"  # auto | epoll | io_uring
    gap_deadline_ms: tuple[int, int] = (20, 120)
    comfort_noise_dbov: float = -70.0
    rtp_timeout_seconds: float = 20.0  # a call without RTP is ended; 0 = never


class Conversation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[conversation]: the workers and what they say when things go wrong."""

    workers: int = 1
    apology: str = ""  # WAV file, "" = the packaged one
    stuck_seconds: float = 15.0  # a worker that does not answer for so long is replaced
    model_path: str = ""  # folder that stands in for the packages of the extra [offline]


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[route]]: which brain takes which call. The first route whose `to` pattern matches wins."""

    brain: str  # "module:Class"
    to: str = "*"  # shell pattern over the dialled number
    trunk: str = "*"
    pipeline: str = "cascaded"
    options: dict[str, Any] = {}
    brain_options: dict[str, Any] = {}
    record: str = ""  # "" | wav | flac | opus
    reflex: bool = True  # duck the agent at once when the caller speaks


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[http]: the local endpoint."""

    listen: str = "127.0.0.1:8080"  # or "unix:/run/sipagent/http.sock", "" = none
    token: str = ""
    token_credential: str = ""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[limits]."""

    max_calls: int = 100
    max_call_seconds: float = 3600.0
    ring_seconds: float = 45.0
    drain_seconds: float = 300.0
    full_status: int = 503  # 486 or 503, when max_calls is reached
    retry_after_seconds: int = 10
    allow_hosts: tuple[str, ...] = ()  # hosts of SIP URIs that POST /v1/calls may name, besides the trunks'


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[log]."""

    level: str = "info"
    format: str = "auto"  # auto | console | json
    redact: bool = True  # numbers are shown with their last three digits only


class Records(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[records]: where call records, transcripts and recordings go."""

    directory: str = "./calls"
    database: str = ""  # SQLAlchemy URL, "" = SQLite in the directory


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole tree."""

    sip: Sip = Sip()
    trunk: tuple[Trunk, ...] = ()
    media: Media = Media()
    conversation: Conversation = Conversation()
    route: tuple[Route, ...] = ()
    http: Http = Http()
    limits: Limits = Limits()
    log: Log = Log()
    records: Records = Records()
