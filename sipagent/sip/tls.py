"""TLS contexts for both roles (RFC 3261 §26.3, RFC 5922): 1.2 and above, names verified unless that is switched off."""

import ssl
from dataclasses import dataclass, field

from sipagent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """File names; `ca` "" = the system's authorities."""

    certificate: str = ""
    key: str = field(default="", repr=False)
    ca: str = ""
    verify: bool = True
    client_ca: str = ""  # "" = clients need no certificate

    def client_context(self) -> ssl.SSLContext:
        """For connections that we open: the certificate must be the server's (RFC 5922)."""
        context = ssl.create_default_context(cafile=self.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key or None)
        return context

    def server_context(self) -> ssl.SSLContext:
        """For our listeners; with `client_ca` a client must show a certificate of that authority (RFC 3261 §26.3.1)."""
        if not self.certificate:
            raise ConfigError("sip.tls_certificate", "a TLS listener needs a certificate", "name a PEM file")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError("sip.tls_certificate", f"cannot be used: {error}", "check both PEM files") from error
        if self.client_ca:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError("sip.tls_client_ca", f"cannot be used: {error}", "name a PEM file") from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context
