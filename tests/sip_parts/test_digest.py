"""Digest authentication: the vectors of the RFCs, the choice among challenges, when to stop."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.errors import ParseError
from sipagent.sip.digest import (
    Account,
    Authentication,
    Challenge,
    Verdict,
    credentials,
    parse_challenges,
    parse_parameters,
    response,
    strongest,
)

MUFASA = ("Mufasa", "http-auth@example.org", "Circle of Life")
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


# ---- vectors


@pytest.mark.rfc("7616", "3.4", "MUST", role="UAC", text="MD5 and SHA-256 responses of the RFC's example")
@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616_section_3_9_1(algorithm, expected):
    username, realm, password = MUFASA
    got = response(
        algorithm, username, realm, password, NONCE, "GET", "/dir/index.html", qop="auth", nc="00000001", cnonce=CNONCE
    )
    assert got == expected


@pytest.mark.rfc("7616", "3.4.4", "SHOULD", role="UAC", text="SHA-512-256 and userhash of the RFC's example")
def test_the_userhash_example_of_rfc_7616_section_3_9_2():
    challenge = Challenge(
        "api@example.org",
        "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
        "SHA-512-256",
        ("auth",),
        opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS",
        userhash=True,
    )
    value = credentials(
        challenge, "Jäsøn Doe", "Secret, or not?", "GET", "/doe.json",
        cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
    )  # fmt: skip
    # The RFC's own text prints other digests; erratum 4897 gives those of the real SHA-512/256.
    assert 'username="793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"' in value
    assert 'response="3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"' in value
    assert "userhash=true" in value


@pytest.mark.rfc("2617", "3.2.2.1", "MUST", role="UAC", text="a challenge without qop is answered in the older form")
def test_the_example_of_rfc_2617_and_the_older_form_without_qop():
    args = ("Mufasa", "testrealm@host.com", "Circle Of Life", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "GET")
    got = response("MD5", *args, "/dir/index.html", qop="auth", nc="00000001", cnonce="0a4f113b")
    assert got == "6629fae49393a05397450978507c4ef1"
    assert response("MD5", *args, "/dir/index.html") == "670fd8c2df070c60b045671b8b24ff02"


def test_auth_int_covers_the_body_and_sess_the_client_nonce():
    base = ("u", "r", "p", "n", "INVITE", "sip:x")
    options = {"nc": "00000001", "cnonce": "c"}
    one = response("MD5", *base, qop="auth-int", body=b"v=0", **options)
    assert one != response("MD5", *base, qop="auth-int", body=b"v=1", **options)
    ha1 = hashlib.md5(b"u:r:p").hexdigest()
    ha1 = hashlib.md5(f"{ha1}:n:c".encode()).hexdigest()
    ha2 = hashlib.md5(b"INVITE:sip:x").hexdigest()
    expected = hashlib.md5(f"{ha1}:n:00000001:c:auth:{ha2}".encode()).hexdigest()
    assert response("MD5-sess", *base, qop="auth", **options) == expected


# ---- reading challenges


def test_a_challenge_is_read_whatever_its_spacing_case_and_commas():
    [challenge] = parse_challenges(
        [
            'DIGEST  realm="a, \\"b\\"" ,nonce="x=y,z", Algorithm=sha-256-SESS,'
            'qop="auth, auth-int" , stale=TRUE,opaque=""'
        ]
    )
    assert challenge == Challenge('a, "b"', "x=y,z", "SHA-256-sess", ("auth", "auth-int"), "", stale=True)


def test_several_challenges_in_one_header_are_told_apart():
    values = ['Basic realm="old", Digest realm="r", nonce="1", Digest realm="r", nonce="2", algorithm=SHA-256']
    assert [(c.nonce, c.algorithm) for c in parse_challenges(values)] == [("1", "MD5"), ("2", "SHA-256")]


def test_what_we_cannot_answer_is_passed_over():
    values = [
        'Digest realm="r", nonce="1", algorithm=AKAv1-MD5',
        'Digest realm="r", nonce="1", qop="token"',
        'Digest nonce="1"',
        'NTLM realm="r", nonce="1"',
        "nonsense",
        'Digest realm="open',
        "Digest " + ",".join(f"p{i}=1" for i in range(100)),
        'Digest realm="' + "x" * 5000 + '"',
    ]
    assert parse_challenges(values) == ()


@pytest.mark.rfc(
    "8760", "2.4", "SHOULD", role="UAC", text="of several challenges the strongest that is allowed is answered"
)
def test_the_strongest_allowed_challenge_is_chosen_wherever_it_stands():
    challenges = [Challenge("r", "1", "MD5"), Challenge("r", "2", "SHA-512-256"), Challenge("r", "3", "SHA-256")]
    assert strongest(challenges).nonce == "2"
    assert strongest(challenges, ("SHA-256", "MD5")).nonce == "3"
    assert strongest(challenges[:1], ("SHA-256",)) is None


@given(st.text(max_size=200) | st.text('Digest realm="x",\\ ', max_size=80).map(lambda tail: "Digest " + tail))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused_with_parse_error_only(text):
    try:
        parse_parameters(text)
    except ParseError:
        return


# ---- answering


MD5 = 'Digest realm="r", nonce="one", qop="auth"'


def client(**options) -> Authentication:
    numbers = iter(range(1000))
    return Authentication(Account("alice", "secret", **options), lambda: f"c{next(numbers)}")


@pytest.mark.rfc("7616", "3.4", "MUST", role="UAC", text="nc counts the uses of a nonce")
def test_nothing_is_sent_before_a_challenge_and_the_count_grows_with_every_use():
    auth = client()
    assert auth.headers("REGISTER", "sip:r") == ()
    assert auth.learn([MD5]) is Verdict.RETRY
    first, second = auth.headers("REGISTER", "sip:r"), auth.headers("REGISTER", "sip:r")
    assert first[0][0] == "Authorization"
    assert "nc=00000001" in first[0][1]
    assert "nc=00000002" in second[0][1]


@pytest.mark.rfc("7616", "5.2", "SHOULD", role="UAC", text="cnonce has at least 64 random bits")
def test_the_client_nonce_has_at_least_64_random_bits():
    auth = Authentication(Account("alice", "secret"))
    auth.learn([MD5])
    [(_, parameters)] = parse_parameters(auth.headers("REGISTER", "sip:r")[0][1])
    assert len(bytes.fromhex(parameters["cnonce"])) >= 8


@pytest.mark.rfc("3261", "22.1", "SHOULD", role="UAC", text="refused credentials are not repeated")
def test_a_refused_first_use_is_a_wrong_password():
    auth = client()
    auth.learn([MD5])
    auth.headers("REGISTER", "sip:r")
    assert auth.learn([MD5.replace("one", "two")]) is Verdict.WRONG_PASSWORD


@pytest.mark.rfc("7616", "3.3", "SHOULD", role="UAC", text="a stale nonce is replaced once")
def test_a_stale_nonce_is_replaced_once_and_not_for_ever():
    auth = client()
    auth.learn([MD5])
    auth.headers("REGISTER", "sip:r")
    stale = MD5.replace("one", "two") + ", stale=true"
    assert auth.learn([stale]) is Verdict.RETRY
    assert 'nonce="two"' in auth.headers("REGISTER", "sip:r")[0][1]
    assert auth.learn([stale]) is Verdict.WRONG_PASSWORD


def test_a_nonce_that_has_served_before_may_run_out_without_being_called_stale():
    auth = client()
    auth.learn([MD5])
    auth.headers("REGISTER", "sip:r")
    auth.accepted()
    auth.headers("REGISTER", "sip:r")
    assert auth.learn([MD5.replace("one", "two")]) is Verdict.RETRY
    assert "nc=00000001" in auth.headers("REGISTER", "sip:r")[0][1]


@pytest.mark.rfc(
    "3261", "22.3", "MUST", role="UAC", text="several realms (proxy and server) are answered in one request"
)
def test_a_proxy_and_a_server_are_both_answered():
    auth = client()
    assert auth.learn([], ['Digest realm="proxy", nonce="p"']) is Verdict.RETRY
    assert [name for name, _ in auth.headers("INVITE", "sip:x")] == ["Proxy-Authorization"]
    assert auth.learn([MD5]) is Verdict.RETRY
    assert [name for name, _ in auth.headers("INVITE", "sip:x")] == ["Proxy-Authorization", "Authorization"]


@pytest.mark.rfc("8760", "2.4", "SHOULD", role="UAC", text="MD5 can be refused by configuration")
def test_only_realms_and_algorithms_that_the_account_allows_are_answered():
    assert client(realms=("trunk",)).learn([MD5]) is Verdict.UNSUPPORTED
    assert client(algorithms=("SHA-256",)).learn([MD5]) is Verdict.UNSUPPORTED
    assert client(realms=("r",)).learn([MD5]) is Verdict.RETRY
    assert Authentication(Account("alice", "")).learn([MD5]) is Verdict.NO_CREDENTIALS


def test_the_next_nonce_of_the_server_is_used():
    auth = client()
    auth.learn([MD5])
    auth.headers("REGISTER", "sip:r")
    auth.accepted('nextnonce="fresh", qop=auth')
    value = auth.headers("REGISTER", "sip:r")[0][1]
    assert 'nonce="fresh"' in value
    assert "nc=00000001" in value


RSPAUTH = {  # of the INVITE in `proven`, by the formula of RFC 7616 §3.4.1 with an empty method
    "auth": hashlib.md5(
        ":".join(
            (
                hashlib.md5(b"alice:r:secret").hexdigest(),
                "n:00000001:c0ffee:auth",
                hashlib.md5(b":sip:bob@r").hexdigest(),
            )
        ).encode()
    ).hexdigest(),
    "auth-int": hashlib.md5(
        ":".join(
            (
                hashlib.md5(b"alice:r:secret").hexdigest(),
                "n:00000001:c0ffee:auth-int",
                hashlib.md5(b":sip:bob@r:" + hashlib.md5(b"v=0").hexdigest().encode()).hexdigest(),
            )
        ).encode()
    ).hexdigest(),
}


def proven(info: str) -> tuple[bool, int, str]:
    """Whether a server's Authentication-Info holds, how often we were told that none does, and our next credentials."""
    told: list[int] = []
    account = Account("alice", "secret")
    auth = Authentication(account, new_cnonce=lambda: "c0ffee", on_unproven=lambda: told.append(1))
    auth.learn(['Digest realm="r",nonce="n",qop="auth"'])
    auth.headers("INVITE", "sip:bob@r")
    held = auth.accepted(info, "sip:bob@r", b"v=0")
    return held, len(told), auth.headers("BYE", "sip:bob@r")[0][1]


@pytest.mark.rfc("7616", "3.5", "MAY", role="UAC", text="rspauth proves that the server knows the password too")
@pytest.mark.parametrize("qop", ["auth", "auth-int"])
def test_a_server_that_knows_the_password_is_believed(qop):
    info = f'rspauth="{RSPAUTH[qop]}",cnonce="c0ffee",nc=00000001,qop={qop},nextnonce="fresh"'
    held, told, value = proven(info)
    assert (held, told) == (True, 0) and 'nonce="fresh"' in value


@pytest.mark.parametrize("qop", ["auth", "auth-int"])
def test_a_server_that_does_not_know_the_password_is_told_and_its_nonce_not_used(qop):
    info = f'rspauth="{"0" * 32}",cnonce="c0ffee",nc=00000001,qop={qop},nextnonce="evil"'
    held, told, value = proven(info)
    assert (held, told) == (False, 1) and 'nonce="n"' in value


@pytest.mark.parametrize("info", ['rspauth="00",cnonce="old",nc=00000001,qop=auth', "qop=auth", "", "\0", "rspauth"])
def test_what_proves_nothing_disproves_nothing(info):
    assert proven(info)[:2] == (True, 0)


def test_an_answer_that_comes_again_does_not_begin_the_count_of_its_next_nonce_anew():
    auth = client()
    auth.learn([MD5])
    auth.headers("INVITE", "sip:r")
    auth.accepted('nextnonce="fresh"')
    auth.headers("INFO", "sip:r")
    auth.accepted('nextnonce="fresh"')
    assert "nc=00000002" in auth.headers("BYE", "sip:r")[0][1]


def test_the_password_does_not_show_in_a_repr():
    assert "secret" not in repr(Account("alice", "secret"))
