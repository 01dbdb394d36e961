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
    ],
)
def test_a_digit_is_read_from_info(content_type: str, body: bytes, digit: tuple[str, int] | None) -> None:
    assert digit_of_info(content_type, body) == digit
