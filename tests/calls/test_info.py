"""DTMF by SIP INFO in both of its forms."""

import pytest

from sipagent.calls.info import digit_of_info


@pytest.mark.parametrize(
    ("content_type", "body", "digit"),
    [
        ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", ("5", 160)),
        ("application/dtmf-relay", b"Signal= *\nDuration= 250\n", ("*", 250)),
        ("Application/DTMF-Relay; charset=utf-8", b"Signal=a", ("A", 0)),
        ("application/dtmf", b"#", ("#", 0)),
        ("application/dtmf", b"x", None),
        ("application/dtmf-relay", b"Signal=55\r\n", None),
        ("application/dtmf-relay", b"", None),
        ("text/plain", b"5", None),
        ("application/dtmf-relay", b"Signal=10\r\nDuration=100\r\n", ("*", 100)),
        ("application/dtmf-relay", b"Signal=11\r\n", ("#", 0)),
        ("application/dtmf-relay", b"Signal=hf\r\n", ("!", 0)),
        ("application/dtmf", b"Signal=5\r\nDuration=160\r\n", ("5", 160)),
        ("application/dtmf", b" 11\r\n", ("#", 0)),
        ("application/dtmf", b"16", ("!", 0)),
        ("application/vnd.nortelnetworks.digits", b"p=Digit-Collection\r\ny=Digits\r\nd=7\r\n", ("7", 0)),
        ("application/dtmf-relay", b"Signal=\xb2\r\nDuration=\xb2\r\n", None),
    ],
)
def test_a_digit_is_read_from_info(content_type: str, body: bytes, digit: tuple[str, int] | None) -> None:
    assert digit_of_info(content_type, body) == digit
