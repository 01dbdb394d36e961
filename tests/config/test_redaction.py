import pytest

from sipagent.service.config.tree import Config, Http, Route, Trunk
from sipagent.service.redaction import MASK, Redaction, mask, redact_numbers, secrets_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+4930123456789", "***789"),
        ("sip:+4930123456@trunk.example", "sip:***456@trunk.example"),
        ("<tel:030123456>", "<tel:***456>"),
        ("call 4930123456 ended", "call ***456 ended"),
        ("extension 1001", "extension 1001"),
        ("10.0.0.1:5060", "10.0.0.1:5060"),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
    ],
)
def test_a_number_keeps_its_last_three_digits(text: str, shown: str) -> None:
    assert redact_numbers(text) == shown


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('Authorization: Digest username="a", nonce="b", response="0123abcd"\r\nVia: x', "0123abcd"),
        ('Proxy-Authorization: Digest response="0123abcd"', "0123abcd"),
        ("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20", "d0Rmdmcm"),
        ("headers: Bearer abc.def-ghi", "abc.def"),
        ('{"password": "hunter2"}', "hunter2"),
        ("POST /?api_key=sk-123", "sk-123"),
        ("k=base64:c2VjcmV0", "c2VjcmV0"),
        ("Signal=5\r\nDuration=160", "=5"),
    ],
)
def test_a_credential_in_a_text_is_masked(text: str, secret: str) -> None:
    shown = mask(text)
    assert secret not in shown
    assert MASK in shown


def test_what_follows_a_masked_header_stays() -> None:
    assert mask("Authorization: Digest x\r\nVia: y") == "Authorization: ***\r\nVia: y"


def test_fields_are_masked_by_their_name_and_by_what_they_hold() -> None:
    event = Redaction(secrets=["correct-horse"])(
        None,
        "info",
        {
            "event": "call 12345678 placed",
            "call_id": "12345678",
            "to": "+4930123456",
            "parties": ["+4930123456", {"from": "+4930123456"}],
            "token": "x",
            "password_credential": "sip-password",
            "digits": "1234",
            "count": 12345678,
            "error": ValueError("correct-horse battery"),
        },
    )
    assert event["to"] == "***456"
    assert event["parties"] == ["***456", {"from": "***456"}]
    assert event["token"] == event["digits"] == MASK
    assert event["password_credential"] == "sip-password"
    assert event["call_id"] == "12345678"
    assert event["count"] == 12345678
    assert event["error"] == "ValueError('*** battery')"


def test_numbers_are_shown_when_the_configuration_says_so_and_secrets_never() -> None:
    event = Redaction(numbers=False, secrets=["correct-horse"])(
        None, "info", {"to": "+4930123456", "x": "correct-horse"}
    )
    assert event == {"to": "+4930123456", "x": MASK}


def test_every_secret_of_a_configuration_is_known() -> None:
    config = Config(
        trunk=(Trunk("a", "a", password="one"),),
        http=Http(token="two"),
        route=(Route("a:B", options={"llm": {"api_key": "three"}, "voice": "x"}, brain_options={"secret": "four"}),),
    )
    assert secrets_of(config) == ["two", "one", "three", "four"]
