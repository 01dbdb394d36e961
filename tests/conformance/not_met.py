"""Requirements that we know and do not meet: (RFC, section, role, level, sentence, reason)."""

NOT_MET = (
    (
        "3261", "22.4", "both", "SHOULD", "auth-int is asked for, and Authentication-Info sent",
        "auth-int is answered, and breaks where something on the path touches the body; a rspauth is checked",
    ),
    ("3261", "23", "both", "MAY", "S/MIME bodies", "an encrypted body gets 415"),
    ("3856", "5", "both", "MAY", "presence", "SUBSCRIBE gets 405: we publish no state"),
    (
        "4488", "4", "UAC", "MAY", "REFER without a subscription is asked for",
        "we always want the NOTIFYs: they say whether the caller is to come back to the agent",
    ),
    (
        "5626", "4.2", "UAC", "SHOULD", "a trunk registers two flows at once",
        "one flow for each trunk; a flow that breaks is registered anew within two seconds",
    ),
    (
        "5626", "4.3", "UAC", "MAY", "ob in the Contact of INVITE keeps requests within the call on the flow",
        "Contact is the address that the registrar sees the flow at",
    ),
    ("5627", "4.1", "UAC", "MAY", "GRUU is obtained", "Contact is the address that the registrar sees us at"),
    ("5763", "5", "both", "MAY", "DTLS-SRTP", "SDES over TLS; an offer of DTLS alone gets 488"),
    ("6035", "4", "UAC", "MAY", "PUBLISH of vq-rtcpxr summaries", "quality is in the call record and in RTCP XR"),
    (
        "8226", "9", "UAS", "MAY", "numbers of a service provider, or of a TNAuthList by reference, are looked up",
        "the verdict says \"not checked\": it takes a country's number portability database",
    ),
    ("8946", "4", "UAS", "MAY", "diverted calls are verified by their div PASSporT", "an unknown extension, reported"),
    ("8445", "2", "both", "MAY", "ICE", "its attributes are passed over; symmetric RTP serves"),
    ("8599", "4", "UAC", "MAY", "push notifications of a registration", "a service is always awake"),
)  # fmt: skip
