"""What came of the check of a caller's number, as the brain, the record, HTTP and the metrics show it."""

from typing import Literal

import msgspec

STALE_DATE = 403
USE_IDENTITY_HEADER = 428
BAD_IDENTITY_INFO = 436
UNSUPPORTED_CREDENTIAL = 437
INVALID_IDENTITY_HEADER = 438

PHRASES = {
    STALE_DATE: "Stale Date",
    USE_IDENTITY_HEADER: "Use Identity Header",
    BAD_IDENTITY_INFO: "Bad Identity Info",
    UNSUPPORTED_CREDENTIAL: "Unsupported Credential",
    INVALID_IDENTITY_HEADER: "Invalid Identity Header",
}


class Verdict(msgspec.Struct, frozen=True):
    """`unchecked`: nobody looked; `absent`: the call carries no Identity that we know how to check."""

    result: Literal["unchecked", "absent", "passed", "failed"] = "unchecked"
    attestation: str = ""  # A, B or C of SHAKEN (RFC 8588 §4); "" for a plain PASSporT, and unless it passed
    number: str = ""  # that was vouched for: digits without a plus, or a SIP URI
    signer: str = ""  # subject of the certificate
    authority: str = ""  # whether the certificate is for this number (RFC 8226 §9): "listed", or why nobody can tell
    origid: str = ""  # the signer's own name of the call's origin
    status: int = 0  # of RFC 8224 §6.2.2 when it did not pass, the answer under `sip.stir = "require"`
    reason: str = ""  # why it did not

    @property
    def label(self) -> str:
        """For a counter: the attestation, the status, or the result."""
        return self.attestation or (str(self.status) if self.result == "failed" else self.result)


class Rejected(Exception):  # noqa: N818 - a finding about the far end's header, and never left uncaught
    """An Identity that does not hold; `status` is that of RFC 8224 §6.2.2."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(f"{status} {reason}")
