"""The configuration, cut into the pieces that the parts of the service take."""

from sipagent.rtp.options import MediaOptions
from sipagent.service.config.check import rtp_rows
from sipagent.service.config.tree import Config, Trunk
from sipagent.sip.engine import EngineSettings, TrunkAccount


def engine_settings(config: Config, instance_id: str = "") -> EngineSettings:
    """What a SIP engine is told at its start; `instance_id` is the UUID of `service.instance`."""
    sip = config.sip
    return EngineSettings(
        listen=sip.listen,
        public_address=sip.public_address,
        user_agent=sip.user_agent,
        trunks=tuple(trunk_account(trunk) for trunk in config.trunk),
        accept_unknown_sources=sip.accept_unknown_sources,
        tls_certificate=sip.tls_certificate,
        tls_key=sip.tls_key,
        tls_ca=sip.tls_ca,
        tls_verify=sip.tls_verify,
        tls_client_ca=sip.tls_client_ca,
        session_expires_s=sip.session_expires_seconds,
        keepalive_s=sip.keepalive_seconds,
        keepalive=sip.keepalive,
        instance_id=instance_id,
    )


def trunk_account(trunk: Trunk) -> TrunkAccount:
    """What a SIP engine is told of a trunk; servers become SIP URIs."""
    return TrunkAccount(
        name=trunk.name,
        server=_uri(trunk.server),
        username=trunk.username,
        auth_username=trunk.auth_username,
        password=trunk.password,
        domain=trunk.domain,
        caller_id=trunk.caller_id,
        register=trunk.register,
        expires_s=trunk.expires,
        outbound_proxy=_uri(trunk.outbound_proxy) if trunk.outbound_proxy else "",
        allow=trunk.allow,
        inbound_digest=trunk.inbound_digest,
        sip_outbound=trunk.sip_outbound,
    )


def media_options(config: Config) -> tuple[MediaOptions, ...]:
    """One record for each media plane; the port range is shared out among them.

    Twice as many rows as calls are opened when the range allows: a bridged transfer takes a second row, and a row
    rests for a while after its call.
    """
    media = config.media
    rows = min(rtp_rows(config), 2 * config.limits.max_calls + 16)
    shares = [rows // media.planes + (plane < rows % media.planes) for plane in range(media.planes)]
    return tuple(
        MediaOptions(
            address=media.address,
            first_port=media.ports[0] + 2 * sum(shares[:plane]),
            rows=share,
            io=media.io,
            dscp=media.dscp,
            gap_deadline_min_ms=media.gap_deadline_ms[0],
            gap_deadline_max_ms=media.gap_deadline_ms[1],
            gap_deadline_percentile=media.gap_deadline_percentile,
            comfort_noise_dbov=media.comfort_noise_dbov,
            inband_dtmf=media.inband_dtmf,
        )
        for plane, share in enumerate(shares)
    )


def _uri(server: str) -> str:
    return server if server.startswith(("sip:", "sips:")) else f"sip:{server}"
