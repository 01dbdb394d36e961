"""The configuration: one TOML file, one frozen tree, defaults beside the fields.

The comment beside a field is its documentation: `sipagent init` and docs/configuration.md are made from this file.
Paths are relative to the folder of the configuration file. `load.load` reads a tree, `check` judges it.
"""

from typing import Annotated, Any, Final, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]

SECRET_WORDS: Final = ("password", "token", "secret", "api_key", "apikey")


def is_secret(key: str) -> bool:
    """True for a key whose value must not be shown; the name of a credential may be."""
    return any(word in key.lower() for word in SECRET_WORDS) and not key.endswith("_credential")


def _masked(value: object, key: str = "") -> str:
    if key and is_secret(key) and isinstance(value, str) and value:
        return "'***'"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {_masked(item, str(name))}" for name, item in value.items()) + "}"
    return repr(value)


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file; shown without its secrets."""

    def __repr__(self) -> str:
        shown = (f"{name}={_masked(getattr(self, name), name)}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(shown)})"


class Sip(_Table, frozen=True):
    """[sip]: the user agent."""

    engine: Literal["native", "pjsua2"] = "native"  # "pjsua2" needs a PJSIP build of your own, see docs
    listen: tuple[str, ...] = ("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060")  # udp, tcp or tls, address, port
    public_address: str = ""  # what the far end sees when we are behind NAT; "" = our own; "stun:host:port" = ask there
    user_agent: str = "sipagent"  # without a version: scanners need not know it
    accept_unknown_sources: bool = False  # take INVITEs from addresses that belong to no trunk
    refer: Literal["reject", "allow"] = "reject"  # may the far end send the agent's call elsewhere (REFER)
    redirects: Literal["report", "follow"] = "report"  # follow 3xx to the addresses that [limits] allows, five at most
    session_expires_seconds: Annotated[int, msgspec.Meta(ge=90)] = 1800  # session timer; at least 90 (RFC 4028 §4.2)
    keepalive_seconds: Seconds = 30.0  # to each trunk, 0 = off
    keepalive: Literal["options", "stun", "crlf"] = "options"  # stun or crlf: on the flow by UDP (RFC 5626 §3.5)
    tls_certificate: str = ""  # PEM file, needed for a "tls:" listener
    tls_key: str = ""  # PEM file
    tls_ca: str = ""  # PEM file of the authorities that we trust; "" = those of the system
    tls_client_ca: str = ""  # PEM file: who connects to us must show a certificate of this authority; "" = need not
    tls_verify: bool = True  # false accepts any certificate of the far end
    stir_trust_anchors: str = ""  # PEM file of the authorities for callers' numbers (STIR/SHAKEN); "" = no check
    stir: Literal["report", "require"] = "report"  # require: a caller whose Identity does not hold is refused
    stir_max_age_seconds: Annotated[float, msgspec.Meta(gt=0)] = 60.0  # of an Identity (RFC 8224 §6.2)
    stir_certificates: str = ""  # folder of certificates, each file named like its URL, escaped: https%3A%2F%2F…
    stir_hosts: tuple[str, ...] = ()  # hosts that certificates may be fetched from by HTTPS; [] = from none


class Trunk(_Table, frozen=True):
    """[[trunk]]: a far end that sends and takes calls; one table for each."""

    name: str  # for routes, logs and POST /v1/calls
    server: str  # "sip:trunk.example;transport=tcp", "10.0.0.1:5060"
    username: str = ""  # of the account
    auth_username: str = ""  # for digest; "" = username
    password: str = ""  # better in a credential or in SIPAGENT__TRUNK__0__PASSWORD
    password_credential: str = ""  # name of a systemd credential that holds it
    domain: str = ""  # host of our address of record; "" = the server's
    caller_id: str = ""  # shown to those we call; "" = username
    register: bool = True  # false for a trunk that knows us by our address
    expires: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 300  # seconds asked for in REGISTER
    sip_outbound: bool = True  # say in REGISTER who we are and which flow it is (RFC 5626)
    outbound_proxy: str = ""  # SIP URI that takes all requests; "" = the server
    allow: tuple[str, ...] = ()  # addresses or networks that may send calls; [] = those of the server
    inbound_digest: bool = False  # its calls to us must know username and password too, not only come from its address
    codecs: tuple[Literal["G722", "PCMU", "PCMA"], ...] = ("G722", "PCMU", "PCMA")  # in the order of preference
    srtp: Literal["off", "optional", "required"] = "off"  # SDES keying (RFC 4568)
    stir_key: str = ""  # PEM file of the key that signs our calls (SHAKEN, RFC 8588); "" = do not sign
    stir_x5u: str = ""  # https URL at which others find its certificate
    stir_attest: Literal["A", "B", "C"] = "A"  # said of our own numbers; others get B, those of callers C


class Media(_Table, frozen=True):
    """[media]: RTP."""

    address: str = "0.0.0.0"  # where the RTP sockets are bound, IPv4 or IPv6
    ports: tuple[Port, Port] = (16000, 17998)  # first (even) and last; two for each call and one to spare for transfers
    planes: Count = 1  # processes that carry RTP; one is enough for 2,000 calls
    io: Literal["auto", "epoll", "io_uring"] = "auto"  # auto: io_uring where the kernel allows it
    dscp: Annotated[int, msgspec.Meta(ge=0, le=63)] = 46  # expedited forwarding, RFC 3246
    gap_deadline_ms: tuple[Count, Count] = (20, 170)  # a missing packet is waited for so long, at least and at most
    gap_deadline_percentile: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.995  # of the line's own delays
    comfort_noise_dbov: Annotated[float, msgspec.Meta(ge=-127, le=0)] = -70.0  # when nobody speaks; -127 = silence
    inband_dtmf: bool = True  # listen for tones as well as for RFC 4733 events
    rtp_timeout_seconds: Seconds = 20.0  # a call without RTP is ended; 0 = never


class Conversation(_Table, frozen=True):
    """[conversation]: the workers and what they say when things go wrong."""

    workers: Count = 1  # processes that run pipelines and brains; about one for each core
    brain_paths: tuple[str, ...] = (".",)  # folders that are searched for the modules of brains
    apology: str = ""  # WAV file played when a worker died, "" = the packaged one
    hold_music: str = ""  # WAV file for those on hold or being transferred; "" = comfort noise, and ringback
    stuck_seconds: Annotated[float, msgspec.Meta(gt=0)] = 15.0  # a worker that does not answer for so long is replaced
    model_path: str = ""  # folder that stands in for the packages of the extra [offline]


class Route(_Table, frozen=True):
    """[[route]]: which brain takes which call. The first route whose patterns match wins."""

    brain: str  # "module:Class"
    to: str = "*"  # shell pattern over the dialled number
    trunk: str = "*"  # name of a trunk, or a shell pattern over names
    pipeline: Literal["cascaded", "echo"] = "cascaded"  # how speech becomes speech; echo plays the caller back
    options: dict[str, Any] = {}  # for the pipeline; `api_key_credential = "x"` becomes `api_key`
    brain_options: dict[str, Any] = {}  # keyword arguments of the brain
    record: Literal["", "wav", "flac", "opus"] = ""  # both legs, in the records directory; "" = do not record
    capture: bool = False  # SIP and RTP of each call, for Wireshark, in the records directory
    reflex: bool = True  # duck the agent at once when the caller speaks


class Http(_Table, frozen=True):
    """[http]: the local endpoint."""

    listen: str = "127.0.0.1:8080"  # or "unix:/run/sipagent/http.sock", "" = none
    token: str = ""  # bearer token; needed unless `listen` is a Unix socket
    token_credential: str = ""  # name of a systemd credential that holds it


class Limits(_Table, frozen=True):
    """[limits]: how much, how long, and whom to call."""

    max_calls: Count = 100  # at once
    max_call_seconds: Seconds = 3600.0  # then the call is ended; 0 = never
    ring_seconds: Annotated[float, msgspec.Meta(gt=0)] = 45.0  # a call that we place is given up after so long
    early_media_seconds: Annotated[float, msgspec.Meta(gt=0)] = 120.0  # a caller whom nobody answers is then refused
    drain_seconds: Seconds = 300.0  # calls may go on for so long after SIGTERM
    max_pacing_ms: Annotated[float, msgspec.Meta(ge=0)] = 20.0  # no new calls while media is later (p99); 0 = never
    full_status: Literal[486, 503] = 503  # answer when max_calls is reached, or media is late
    retry_after_seconds: Annotated[int, msgspec.Meta(ge=0)] = 10  # said with it
    allow_hosts: tuple[str, ...] = ()  # hosts of SIP URIs that POST /v1/calls may name, besides the trunks'
    allow_numbers: tuple[str, ...] = ("+*",)  # shell patterns of numbers that POST /v1/calls may name
    deny_numbers: tuple[str, ...] = ()  # patterns that it may not, such as premium ranges
    place_per_minute: Annotated[int, msgspec.Meta(ge=0)] = 120  # calls placed by HTTP in a minute; 0 = no limit


class Log(_Table, frozen=True):
    """[log]: what is told, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"  # and what is worse
    format: Literal["auto", "console", "json"] = "auto"  # auto: console on a terminal, else JSON
    redact: bool = True  # numbers are shown with their last three digits only


class Records(_Table, frozen=True):
    """[records]: where call records, transcripts and recordings go."""

    directory: str = "./calls"  # made when it is missing
    database: str = ""  # SQLAlchemy URL, "" = SQLite in the directory
    capture_megabytes: Count = 100  # a capture ends at this size; an hour of G.711 needs 85
    keep_days: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # records and files older than this are deleted; 0 = keep all


class Hep(_Table, frozen=True):
    """[hep]: SIP messages for a capture server (Homer), by HEP version 3; secrets are masked, numbers are not."""

    server: str = ""  # "udp:homer.example:9060"; "" = off
    capture_id: Annotated[int, msgspec.Meta(ge=0, le=999_999)] = 2001  # tells this service from others
    password: str = ""  # sent with each message, for servers that want one
    password_credential: str = ""  # name of a systemd credential that holds it


class Config(_Table, frozen=True):
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
    hep: Hep = Hep()
