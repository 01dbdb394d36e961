"""DTMF that comes by SIP INFO."""


def digit_of_info(content_type: str, body: bytes) -> tuple[str, int] | None:
    """Digit and duration in ms of an INFO body (application/dtmf-relay, application/dtmf); None when it is none."""
    kind = content_type.split(";")[0].strip().lower()
    text = body.decode("ascii", errors="replace")
    if kind == "application/dtmf":
        digit = text.strip()[:1]
        return (digit.upper(), 0) if digit and digit in "0123456789*#ABCDabcd" else None
    if kind != "application/dtmf-relay":
        return None
    fields = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        fields[name.strip().lower()] = value.strip()
    digit = fields.get("signal", "").upper()
    duration = fields.get("duration", "")
    if len(digit) != 1 or digit not in "0123456789*#ABCD":
        return None
    return digit, int(duration) if duration.isdigit() and len(duration) < 6 else 0
