"""DTMF that comes by SIP INFO."""

from typing import Final

_KEYS: Final = "0123456789*#ABCD"
_FLASH: Final = "!"
# Some write the event's code of RFC 4733 in place of the key.
_CODES: Final = {str(code): key for code, key in enumerate(_KEYS + _FLASH)} | {"HF": _FLASH, "FLASH": _FLASH}


def digit_of_info(content_type: str, body: bytes) -> tuple[str, int] | None:
    """Digit and duration in ms of an INFO body (application/dtmf-relay, application/dtmf); None when it is none.

    No RFC defines these: the key stands behind `Signal=` in the one and alone in the other, and is met the other way
    round, as an event's code, and under the type of another maker.
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind not in ("application/dtmf-relay", "application/dtmf", "application/vnd.nortelnetworks.digits"):
        return None
    text = body.decode("ascii", errors="replace").strip()
    fields = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        fields[name.strip().lower()] = value.strip()
    signal = fields.get("signal", fields.get("d", "")) if "=" in text else text.split("\n")[0].strip()
    signal = signal.strip('"').upper()
    key = _CODES.get(signal, signal)
    if len(key) != 1 or key not in _KEYS + _FLASH:
        return None
    duration = fields.get("duration", "")
    return key, int(duration) if duration.isdecimal() and duration.isascii() and len(duration) < 6 else 0
