"""Who vouches for a caller's number: PASSporTs of our own authorities, and what must not pass for one."""

import contextlib
import json
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.errors import ParseError
from sipagent.stir import passport, signature
from sipagent.stir.certificate import load_anchors, read_tn_auth_list
from sipagent.stir.repository import Repository
from sipagent.stir.telephone import Name, name_of
from sipagent.stir.verdict import Verdict
from sipagent.stir.verify import Claimed, Verifier
from tests.support.stir import ORIGID, P256, URL, Authority, Signing, tn_auth_list

NOW = float(int(time.time()))
CALLER, CALLED = "+1 (215) 555-1212", "+12155551213"
AUTHORITY = Authority(NOW)
SIGNING = AUTHORITY.issue(tn_auth_list(numbers=("12155551212",)))


class Line:
    """A verifier whose repository is a folder."""

    def __init__(self, folder: Path, signing: Signing = SIGNING, anchor: bytes = AUTHORITY.anchor) -> None:
        (folder / "anchors.pem").write_bytes(anchor)
        signing.save_chain(folder / "certificates")
        anchors = load_anchors(str(folder / "anchors.pem"))
        self.repository = Repository(anchors, str(folder / "certificates"), ())
        self.verifier = Verifier(self.repository, 60.0)

    def judge(self, *identities: str, now: float = NOW, **claims: object) -> Verdict:
        verdict = self.verifier.at_once(claimed(*identities, **claims), now)
        assert verdict is not None
        return verdict


def claimed(
    *identities: str, caller: str = "12155551212", called: str = "12155551213", date: float | None = None
) -> Claimed:
    return Claimed(identities, (Name("tn", caller),), (Name("tn", called),), date)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    return Line(tmp_path_factory.mktemp("line"))


def forged(header: dict[str, object], claims: dict[str, object], signing: Signing = SIGNING) -> str:
    """A token that says anything, with an honest signature."""
    text = ".".join(passport.encode(json.dumps(part).encode()) for part in (header, claims))
    signed = passport.encode(signature.sign(signing.key, text.encode()))
    return f"{text}.{signed};info=<{URL}>;alg=ES256"


HEADER: dict[str, object] = {"alg": "ES256", "ppt": "shaken", "typ": "passport", "x5u": URL}
CLAIMS: dict[str, object] = {
    "attest": "A",
    "dest": {"tn": ["12155551213"]},
    "iat": int(NOW),
    "orig": {"tn": "12155551212"},
    "origid": ORIGID,
}


@pytest.mark.rfc("8224", "6.2", "MUST", role="UAS", text="a signature of a trusted certificate for this call passes")
@pytest.mark.rfc("8588", "4", "MUST", role="UAS", text="the attestation of a SHAKEN PASSporT is told")
@pytest.mark.parametrize("attest", ["A", "B", "C"])
def test_a_signed_call_passes_with_its_attestation(line: Line, attest: str) -> None:
    verdict = line.judge(SIGNING.identity(CALLER, CALLED, NOW, attest))
    assert (verdict.result, verdict.attestation, verdict.number) == ("passed", attest, "12155551212")
    assert (verdict.signer, verdict.authority, verdict.origid) == ("CN=SHAKEN 1234", "listed", ORIGID)


@pytest.mark.rfc("8224", "6.2.2", "MUST", role="UAS", text="an Identity that does not hold is 438")
def test_a_changed_token_fails(line: Line) -> None:
    value = SIGNING.identity(CALLER, CALLED, NOW, "B")
    token, _, parameters = value.partition(";")
    header, claims, signed = token.split(".")
    better = passport.encode(passport.decode(claims).replace(b'"attest":"B"', b'"attest":"A"'))
    verdict = line.judge(f"{header}.{better}.{signed};{parameters}")
    assert (verdict.result, verdict.attestation, verdict.status) == ("failed", "", 438)


def test_a_token_of_another_key_fails(line: Line) -> None:
    other = Signing(ec.generate_private_key(P256), b"")
    assert line.judge(other.identity(CALLER, CALLED, NOW)).status == 438


@pytest.mark.rfc("8224", "6.2", "MUST", role="UAS", text="orig and dest are compared with who calls and who is called")
@pytest.mark.parametrize(("caller", "called"), [("12155550000", "12155551213"), ("12155551212", "12155550000")])
def test_a_token_of_another_call_fails(line: Line, caller: str, called: str) -> None:
    verdict = line.judge(SIGNING.identity(CALLER, CALLED, NOW), caller=caller, called=called)
    assert verdict.status == 438
    assert verdict.reason in ("the token is for another caller", "the token is for a call to somebody else")


@pytest.mark.rfc(
    "8224", "6.2", "MUST", role="UAS", text="a token older than a minute, or of the future, is 403 Stale Date"
)
@pytest.mark.parametrize(("later_s", "status"), [(59, 0), (61, 403), (-59, 0), (-61, 403)])
def test_an_old_token_is_stale(line: Line, later_s: int, status: int) -> None:
    assert line.judge(SIGNING.identity(CALLER, CALLED, NOW), now=NOW + later_s).status == status


def test_a_date_that_is_not_the_tokens_is_stale(line: Line) -> None:
    assert line.judge(SIGNING.identity(CALLER, CALLED, NOW), date=NOW - 100).status == 403


@pytest.mark.rfc("8224", "6.2.2", "MUST", role="UAS", text="a certificate that nobody we trust stands behind is 437")
@pytest.mark.parametrize(
    "signing",
    [
        Authority(NOW).issue(),  # of an authority with the same name and another key
        AUTHORITY.issue(days=(-2.0, -1.0)),
        AUTHORITY.issue(days=(0.5, 1.0)),
        AUTHORITY.issue(whole=False),
        AUTHORITY.issue(signs=False),
        AUTHORITY.issue(b"\x30\x03\x04"),
    ],
    ids=["stranger", "run out", "not yet valid", "no intermediate", "not for signatures", "broken TNAuthList"],
)
def test_an_untrusted_certificate_is_named(tmp_path: Path, signing: Signing) -> None:
    verdict = Line(tmp_path, signing).judge(signing.identity(CALLER, CALLED, NOW))
    assert (verdict.result, verdict.status) == ("failed", 437)


def test_a_certificate_of_another_curve_is_refused(tmp_path: Path) -> None:
    signing = AUTHORITY.issue(curve=ec.SECP384R1())
    verdict = Line(tmp_path, signing).judge(SIGNING.identity(CALLER, CALLED, NOW))
    assert (verdict.status, verdict.reason) == (437, "the certificate's key is not for ES256")


def test_a_certificate_that_runs_out_while_it_is_remembered_is_no_longer_believed(tmp_path: Path) -> None:
    signing = AUTHORITY.issue(days=(-1.0, 600 / 86_400))
    line = Line(tmp_path, signing)
    assert line.judge(signing.identity(CALLER, CALLED, NOW)).result == "passed"
    assert line.judge(signing.identity(CALLER, CALLED, NOW + 601), now=NOW + 601).status == 437


@pytest.mark.rfc("8224", "6.2.2", "MUST", role="UAS", text="a certificate that cannot be had is 436")
def test_a_certificate_that_is_nowhere_is_bad_identity_info(line: Line) -> None:
    verdict = line.judge(SIGNING.identity(CALLER, CALLED, NOW, url="https://elsewhere.test/a.pem"))
    assert (verdict.status, verdict.reason) == (436, "certificates are not fetched from this host")


@pytest.mark.rfc("8226", "9", "MUST", role="UAS", text="a certificate for other numbers does not vouch for this one")
@pytest.mark.parametrize(
    ("numbers", "authority"),
    [
        (tn_auth_list(ranges=(("12155551000", 300),)), "listed"),
        (tn_auth_list(ranges=(("12155551000", 212),)), ""),
        (tn_auth_list(numbers=("2155551212",)), ""),
        (tn_auth_list(providers=("1234",)), "not checked: the certificate is for service provider 1234"),
        (tn_auth_list(providers=("1234",), numbers=("12155551212",)), "listed"),
        (None, "not checked: the certificate has no TNAuthList"),
    ],
    ids=["range", "range below", "other number", "provider", "provider and number", "none"],
)
def test_the_numbers_of_a_certificate_are_checked_where_it_lists_them(
    tmp_path: Path, numbers: bytes | None, authority: str
) -> None:
    signing = AUTHORITY.issue(numbers)
    verdict = Line(tmp_path, signing).judge(signing.identity(CALLER, CALLED, NOW))
    assert verdict.authority == authority
    assert verdict.status == (0 if authority else 437)


@pytest.mark.rfc("8225", "7", "MUST", role="UAS", text="the compact form is filled in from the request")
def test_a_compact_token_is_filled_in_from_the_request(line: Line) -> None:
    header = passport.write_header(URL)
    claims = passport.write_claims(Name("tn", "12155551212"), Name("tn", "12155551213"), int(NOW))
    signed = passport.encode(signature.sign(SIGNING.key, f"{header}.{claims}".encode()))
    compact = f"..{signed};info=<{URL}>;alg=ES256"
    verdict = line.judge(compact, date=NOW)
    assert (verdict.result, verdict.attestation, verdict.number) == ("passed", "", "12155551212")
    assert line.judge(compact, date=NOW, called="1215").status == 438
    assert line.judge(compact, date=NOW - 61).status == 403
    assert line.judge(compact).status == 438
    assert line.judge(compact + ";ppt=shaken", date=NOW).status == 438


@pytest.mark.rfc("8225", "9", "MUST", role="both", text="keys stand in order and without blanks")
def test_a_token_is_written_in_the_order_of_its_keys() -> None:
    token = SIGNING.identity(CALLER, CALLED, 1443208345.0).partition(";")[0]
    header, claims, _ = token.split(".")
    assert passport.decode(header).decode() == f'{{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"{URL}"}}'
    assert passport.decode(claims).decode() == (
        '{"attest":"A","dest":{"tn":["12155551213"]},"iat":1443208345,"orig":{"tn":"12155551212"},'
        f'"origid":"{ORIGID}"}}'
    )


def test_the_token_of_rfc_8225_appendix_a_is_read() -> None:
    identity = passport.parse_identity(
        "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3JnL3Bhc3Nwb3J0LmNlciJ9."
        "eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI6MTQ3MTM3NTQxOCwib3JpZyI6eyJ0biI6IjEyMTU1NTUxMjEyIn19."
        "VLBCIVDCaeK6M4hLJb6SHQvacAQVvoiiEOWQ_iUqqk79UD81fHQ0E1b3_GluIkba7UWYRM47ZbNFdOJquE35cw"
        ";info=<https://cert.example.org/passport.cer>"
    )
    assert passport.read_header(identity.header).x5u == "https://cert.example.org/passport.cer"
    claims = passport.read_claims(identity.claims)
    assert (claims.orig.tn, claims.dest.uri, claims.iat) == ("12155551212", ("sip:alice@example.com",), 1471375418)


@pytest.mark.rfc("8224", "6.2", "MUST", role="UAS", text="an extension that we do not know is as if it were not there")
def test_unknown_extensions_count_as_absent(line: Line) -> None:
    assert line.judge(forged(HEADER | {"ppt": "div"}, CLAIMS) + ";ppt=div").result == "absent"
    assert line.judge(forged(HEADER | {"ppt": "div"}, CLAIMS)).result == "absent"
    assert line.judge().status == 428


def test_one_token_that_holds_is_enough(line: Line) -> None:
    good = SIGNING.identity(CALLER, CALLED, NOW)
    assert line.judge("rubbish", good, good.replace("shaken", "div")).attestation == "A"
    assert line.judge("rubbish", "rubbish", "rubbish", "rubbish", good).status == 438, "only four are looked at"


@pytest.mark.parametrize(
    "value",
    [
        forged(HEADER | {"alg": "none"}, CLAIMS),
        forged(HEADER | {"alg": "HS256"}, CLAIMS),
        forged(HEADER | {"crit": ["x"]}, CLAIMS),
        forged(HEADER | {"typ": "JWT"}, CLAIMS),
        forged(HEADER | {"x5u": "https://cert.test/other.pem"}, CLAIMS),
        forged(HEADER, CLAIMS).replace("alg=ES256", "alg=RS256"),
        forged(HEADER | {"ppt": ""}, CLAIMS) + ";ppt=shaken",
        forged(HEADER, CLAIMS | {"attest": "D"}),
        forged(HEADER, {key: value for key, value in CLAIMS.items() if key != "origid"}),
        forged(HEADER, CLAIMS | {"iat": "now"}),
        forged(HEADER, CLAIMS | {"orig": {"tn": "12155551212", "uri": "sip:a@b"}}),
        forged(HEADER, CLAIMS | {"orig": {}}),
        forged(HEADER, CLAIMS | {"dest": {}}),
        f"{passport.encode(b'[' * 3000)}.{passport.encode(b'[' * 3000)}.AAAA",
        f"e30..{'A' * 86}",
        "a.b.c;" + ";info" * 2000,
        "A" * 10_000,
        "",
    ],
)
def test_a_token_that_is_not_one_is_invalid(line: Line, value: str) -> None:
    verdict = line.judge(value)
    assert (verdict.result, verdict.status) == ("failed", 438), verdict


PARTS = st.one_of(
    st.binary(max_size=80).map(passport.encode),
    st.dictionaries(
        st.sampled_from(["alg", "ppt", "typ", "x5u", "crit", "attest", "dest", "iat", "orig", "origid"]),
        st.one_of(
            st.sampled_from(
                ["ES256", "shaken", "passport", URL, "A", ORIGID, {"tn": "1"}, {"tn": ["1"]}, {"uri": "\0"}]
            ),
            st.integers(),
            st.floats(),
            st.text(max_size=5),
        ),
    ).map(lambda part: passport.encode(json.dumps(part).encode())),
)
TOKENS = st.tuples(PARTS, PARTS, PARTS, st.text(max_size=40)).map(lambda p: f"{p[0]}.{p[1]}.{p[2]};info=<{URL}>{p[3]}")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=100).map(lambda data: data.decode("utf-8", "surrogateescape")), TOKENS), max_size=4
    ),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_any_header_gives_a_verdict_and_never_an_exception(line: Line, values: list[str], date: float | None) -> None:
    verdict = line.judge(*values, date=date)
    assert verdict.result in ("absent", "failed") and verdict.status in (403, 428, 436, 437, 438)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_list_of_numbers_or_a_parse_error(data: bytes) -> None:
    with contextlib.suppress(ParseError):
        read_tn_auth_list(data)


@pytest.mark.rfc("8224", "8.3", "MUST", role="both", text="numbers are compared without plus and separators")
@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("sip:+1(215)555-1212@x.test;user=phone", Name("tn", "12155551212")),
        ("tel:+1-215-555-1212;phone-context=x", Name("tn", "12155551212")),
        ("sip:%2B12155551212:secret@x.test", Name("tn", "12155551212")),
        ("sips:alice@Example.COM:5061;transport=tls", Name("uri", "sip:alice@example.com")),
        ("sip:alice@[::1]:5060", Name("uri", "sip:alice@[::1]")),
        ("sip:example.com", None),
        ("tel:alice", None),
        ("http://x", None),
    ],
)
def test_names_are_canonical(uri: str, name: Name | None) -> None:
    assert name_of(uri) == name
