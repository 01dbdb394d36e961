"""STUN binding messages: the vectors of RFC 5769, round trips, and rubbish."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.errors import ParseError
from sipagent.sip.stun import BindingRequest, BindingResponse, decode, encode_request, encode_response, is_stun

ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")

# RFC 5769 §2.2 and §2.3, with their SOFTWARE, MESSAGE-INTEGRITY and FINGERPRINT attributes.
IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220"
    "002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)


@pytest.mark.rfc("8489", "14.2", "MUST", role="UAC", text="XOR-MAPPED-ADDRESS of the test vectors is read")
def test_the_responses_of_rfc_5769_are_read():
    assert decode(IPV4) == BindingResponse(ID, "192.0.2.1", 32853)
    assert decode(IPV6) == BindingResponse(ID, "2001:db8:1234:5678:11:2233:4455:6677", 32853)


@given(st.binary(min_size=12, max_size=12), st.ip_addresses(), st.integers(0, 65535))
@settings(max_examples=50, deadline=None)
def test_what_is_encoded_decodes_to_itself(transaction_id, address, port):
    request = BindingRequest(transaction_id)
    assert decode(encode_request(request)) == request
    response = BindingResponse(transaction_id, str(address), port)
    assert decode(encode_response(response)) == response


def test_an_error_and_an_old_servers_address_are_read():
    assert decode(encode_response(BindingResponse(ID, error=420))) == BindingResponse(ID, error=420)
    old = bytes.fromhex("0101000c2112a442") + ID + bytes.fromhex("00010008000104d2c0000201")
    assert decode(old) == BindingResponse(ID, "192.0.2.1", 1234)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OPTIONS sip:x SIP/2.0\r\n\r\n",
        bytes(20),
        IPV4[:-4],
        bytes.fromhex("010100042112a442") + ID + bytes.fromhex("00200008"),
        bytes.fromhex("010100082112a442") + ID + bytes.fromhex("0020000400010000"),
        bytes.fromhex("010100042112a442") + ID + bytes.fromhex("7fff0000"),
        bytes.fromhex("010100002112a442") + ID,
        bytes.fromhex("000300002112a442") + ID,
    ],
)
def test_what_is_no_binding_message_is_refused(data):
    with pytest.raises(ParseError):
        decode(data)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: IPV4[:20] + tail))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused_with_parse_error_only(data):
    try:
        decode(data)
    except ParseError:
        return
    assert is_stun(data)


def test_a_transaction_id_has_twelve_bytes():
    with pytest.raises(ValueError, match="12 bytes"):
        encode_request(BindingRequest(b"short"))
