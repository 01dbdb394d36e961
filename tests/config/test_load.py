from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.errors import ConfigError
from sipagent.service.config.load import load, read
from sipagent.service.config.tree import Config
from sipagent.service.redaction import secrets_of

TOKEN = '[http]\ntoken = "a-long-enough-token"\n'


def written(folder: Path, text: str, token: str = TOKEN) -> Path:
    path = folder / "sipagent.toml"
    path.write_text(text + "\n" + token, encoding="utf-8")
    return path


def problems_of(
    folder: Path, text: str, environ: dict[str, str] | None = None, token: str = TOKEN
) -> dict[str, ConfigError]:
    _, problems = read(written(folder, text, token), environ or {})
    return {problem.field: problem for problem in problems}


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    config = load(
        written(
            tmp_path,
            """
            [sip]
            listen = ["udp:127.0.0.1:5060", "tcp:[::1]:5060"]
            [[trunk]]
            name = "office"
            server = "sip:trunk.example;transport=tcp"
            username = "agent"
            password = "hunter2hunter2"
            codecs = ["PCMA"]
            srtp = "optional"
            [[route]]
            brain = "receptionist:Receptionist"
            to = "+4930*"
            trunk = "office"
            brain_options = { hours = [9, 17] }
            """,
        ),
        {},
    )
    assert config.sip.listen == ("udp:127.0.0.1:5060", "tcp:[::1]:5060")
    assert config.trunk[0].codecs == ("PCMA",)
    assert config.route[0].brain_options == {"hours": [9, 17]}


def test_an_unknown_key_names_the_field_and_the_nearest_setting(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, "[sip]\nlisten_on = []\n[limit]\nmax_calls = 3\n")
    assert problems["sip.listen_on"].fix == "did you mean listen?"
    assert problems["limit"].fix == "did you mean limits?"


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        load(written(tmp_path, '[sip]\nengine = "nativ"\n[media]\nports = [1, 2]\n[log]\nlevel = 3\n'), {})
    fields = {problem.field for problem in caught.value.exceptions if isinstance(problem, ConfigError)}
    assert fields == {"sip.engine", "media.ports", "log.level"}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[sip]\nlisten = ["udp:127.0.0.1"]', "sip.listen[0]"),
        ('[sip]\nlisten = ["sctp:127.0.0.1:5060"]', "sip.listen[0]"),
        ('[sip]\nlisten = ["udp:127.0.0.1:70000"]', "sip.listen[0]"),
        ('[sip]\nlisten = ["udp:127.0.0.300:5060"]', "sip.listen[0]"),
        ('[sip]\nlisten = ["tls:127.0.0.1:5061"]', "sip.listen[0]"),
        ('[sip]\nlisten = ["udp:127.0.0.1:5060", "udp:127.0.0.1:5060"]', "sip.listen[1]"),
        ('[sip]\nlisten = ["udp:127.0.0.1:16010"]', "sip.listen[0]"),
        ("[sip]\nlisten = []", "sip.listen"),
        ('[sip]\nlisten = "udp:127.0.0.1:5060"', "sip.listen"),
        ('[sip]\ntls_certificate = "missing.pem"', "sip.tls_certificate"),
        ('[sip]\ntls_client_ca = "pyproject.toml"', "sip.tls_client_ca"),
        ('[sip]\nstir_trust_anchors = "missing.pem"\nstir_hosts = ["a.example"]', "sip.stir_trust_anchors"),
        ('[sip]\nstir_trust_anchors = "sipagent.toml"\nstir_hosts = ["a.example"]', "sip.stir_trust_anchors"),
        ('[sip]\nstir = "require"', "sip.stir"),
        ('[sip]\nstir_certificates = "missing"', "sip.stir_certificates"),
        ('[sip]\nstir_hosts = ["https://a.example"]', "sip.stir_hosts[0]"),
        ('[[trunk]]\nname = "a"\nserver = "b"\nregister = false\nstir_key = "x"', "trunk[0].stir_x5u"),
        ('[[trunk]]\nname = "a"\nserver = "b"\nregister = false\nstir_x5u = "https://a/b"', "trunk[0].stir_key"),
        (
            '[[trunk]]\nname = "a"\nserver = "b"\nregister = false\nstir_key = "x"\nstir_x5u = "https://a/b"',
            "trunk[0].stir_key",
        ),
        ('[sip]\npublic_address = "not an address"', "sip.public_address"),
        ('[sip]\npublic_address = "stun:"', "sip.public_address"),
        ('[[trunk]]\nname = "a"\nserver = "sip:b"\nregister = false\ninbound_digest = true', "trunk[0].inbound_digest"),
        ('[sip]\nuser_agent = "a\\r\\nVia: b"', "sip.user_agent"),
        ("[sip]\nsession_expires_seconds = 10", "sip.session_expires_seconds"),
        ('[[trunk]]\nserver = "sip:a.example"', "trunk[0].name"),
        ('[[trunk]]\nname = "a b"\nserver = "a"\nregister = false', "trunk[0].name"),
        ('[[trunk]]\nname = "a"', "trunk[0].server"),
        ('[[trunk]]\nname = "a"\nserver = "sip:a b"\nregister = false', "trunk[0].server"),
        ('[[trunk]]\nname = "a"\nserver = "sip:a;transport=sctp"\nregister = false', "trunk[0].server"),
        ('[[trunk]]\nname = "a"\nserver = "a"', "trunk[0].username"),
        ('[[trunk]]\nname = "a"\nserver = "a"\nusername = "x\\r\\ny"', "trunk[0].username"),
        ('[[trunk]]\nname = "a"\nserver = "a"\nusername = "x"\nallow = ["10.0.0.0/33"]', "trunk[0].allow[0]"),
        ('[[trunk]]\nname = "a"\nserver = "a"\nusername = "x"\ncodecs = ["OPUS"]', "trunk[0].codecs"),
        ('[[trunk]]\nname = "a"\nserver = "a"\nusername = "x"\ncodecs = []', "trunk[0].codecs"),
        ('[[trunk]]\nname = "a"\nserver = "a"\nusername = "x"\nsrtp = "on"', "trunk[0].srtp"),
        ('[trunk]\nname = "a"', "trunk"),
        ("[media]\nports = [16001, 17998]", "media.ports"),
        ("[media]\nports = [16000, 16050]", "media.ports"),
        ("[media]\nports = [16000]", "media.ports"),
        ("[media]\nports = [16000, 99999]", "media.ports"),
        ('[media]\naddress = "eth0"', "media.address"),
        ("[media]\ngap_deadline_ms = [200, 100]", "media.gap_deadline_ms"),
        ("[media]\nplanes = 0", "media.planes"),
        ("[media]\nplanes = 101", "media.planes"),
        ("[limits]\ndrain_seconds = inf", "limits.drain_seconds"),
        ('[conversation]\napology = "missing.wav"', "conversation.apology"),
        ('[conversation]\nmodel_path = "missing"', "conversation.model_path"),
        ('[conversation]\nbrain_paths = ["missing"]', "conversation.brain_paths[0]"),
        ('[[route]]\nbrain = "receptionist.Receptionist"', "route[0].brain"),
        ('[[route]]\nbrain = "a:B"\nto = "+49 30"', "route[0].to"),
        ('[[route]]\nbrain = "a:B"\ntrunk = "nowhere"', "route[0].trunk"),
        ('[[route]]\nbrain = "a:B"\nrecord = "mp3"', "route[0].record"),
        ("[limits]\nmax_calls = 0", "limits.max_calls"),
        ("[limits]\nmax_calls = true", "limits.max_calls"),
        ("[limits]\nfull_status = 500", "limits.full_status"),
        ('[limits]\nallow_hosts = ["sip:a@b"]', "limits.allow_hosts[0]"),
        ('[limits]\ndeny_numbers = ["premium"]', "limits.deny_numbers[0]"),
        ('[log]\nformat = "xml"', "log.format"),
        ("sip = 3", "sip"),
    ],
)
def test_a_wrong_value_is_reported_at_its_field_with_a_fix(tmp_path: Path, text: str, field: str) -> None:
    problems = problems_of(tmp_path, text)
    assert list(problems) == [field]
    assert problems[field].problem
    assert problems[field].fix


@pytest.mark.parametrize(
    ("http", "field"),
    [
        ('[http]\nlisten = "127.0.0.1:8080"', "http.token"),
        ('[http]\ntoken = "two words"', "http.token"),
        ('[http]\nlisten = "unix:http.sock"', "http.listen"),
        (f'[http]\nlisten = "unix:/{"x" * 120}"', "http.listen"),
        ('[http]\nlisten = "8080"\ntoken = "t"', "http.listen"),
        ('[http]\nlisten = "localhost:http"\ntoken = "t"', "http.listen"),
    ],
)
def test_a_listener_that_anybody_can_reach_needs_a_token(tmp_path: Path, http: str, field: str) -> None:
    assert list(problems_of(tmp_path, "", token=http)) == [field]


@pytest.mark.parametrize(
    "server", ["homer.example:9060", "tcp:homer.example:9060", "udp:homer.example", "udp:homer.example:0", "udp::9060"]
)
def test_a_capture_server_is_an_address_for_datagrams(tmp_path: Path, server: str) -> None:
    assert list(problems_of(tmp_path, f'[hep]\nserver = "{server}"\n')) == ["hep.server"]


@pytest.mark.parametrize("server", ["udp:homer.example:9060", "udp:192.0.2.1:9060", "udp:[2001:db8::1]:9060"])
def test_a_capture_server_is_named_or_numbered(tmp_path: Path, server: str) -> None:
    assert problems_of(tmp_path, f'[hep]\nserver = "{server}"\n') == {}


@pytest.mark.parametrize("listen", ["unix:/run/sipagent/http.sock", ""])
def test_a_unix_socket_needs_no_token(tmp_path: Path, listen: str) -> None:
    assert problems_of(tmp_path, "", token=f'[http]\nlisten = "{listen}"') == {}


def test_two_trunks_cannot_share_a_name(tmp_path: Path) -> None:
    trunk = '[[trunk]]\nname = "a"\nserver = "a"\nregister = false\n'
    assert list(problems_of(tmp_path, trunk + trunk)) == ["trunk[1].name"]


def test_a_file_that_is_missing_or_no_toml_is_one_clear_problem(tmp_path: Path) -> None:
    _, missing = read(tmp_path / "none.toml", {"SIPAGENT__HTTP__TOKEN": "t"})
    assert [problem.problem for problem in missing] == ["cannot be read: No such file or directory"]
    problems = problems_of(tmp_path, "[sip\n", {"SIPAGENT__HTTP__TOKEN": "t"})
    assert [problem.problem[:11] for problem in problems.values()] == ["is not TOML"]


# ---- environment


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[sip]\nengine = "native"\n[[trunk]]\nname = "a"\nserver = "a"\nusername = "u"\n')
    config = load(
        path,
        {
            "SIPAGENT__SIP__ENGINE": "pjsua2",
            "SIPAGENT__SIP__LISTEN": '["udp:127.0.0.1:5070"]',
            "SIPAGENT__TRUNK__0__PASSWORD": "0123",
            "SIPAGENT__TRUNK__1__NAME": "b",
            "SIPAGENT__TRUNK__1__SERVER": "10.0.0.1",
            "SIPAGENT__TRUNK__1__REGISTER": "false",
            "SIPAGENT__MEDIA__PORTS": "[20000, 20998]",
            "SIPAGENT__LIMITS__MAX_CALLS": "7",
            "SIPAGENT__ROUTE": '[{"brain": "a:B", "options": {"voice": "low"}}]',
            "SIPAGENT__ROUTE__0__BRAIN_OPTIONS__HOURS": "[9, 17]",
            "SIPAGENT__ROUTE__0__BRAIN_OPTIONS__CITY": "Berlin",
            "PATH": "/bin",
        },
    )
    assert config.sip.engine == "pjsua2"
    assert config.sip.listen == ("udp:127.0.0.1:5070",)
    assert config.trunk[0].password == "0123"  # a string stays as it stands
    assert (config.trunk[1].name, config.trunk[1].register) == ("b", False)
    assert config.media.ports == (20000, 20998)
    assert config.limits.max_calls == 7
    assert config.route[0].options == {"voice": "low"}
    assert config.route[0].brain_options == {"hours": [9, 17], "city": "Berlin"}


@pytest.mark.parametrize("variable", ["SIPAGENT__SIP__ENGIN", "SIPAGENT__TRUNK__5__NAME", "SIPAGENT__SIP__ENGINE__X"])
def test_an_override_that_leads_nowhere_is_an_error(tmp_path: Path, variable: str) -> None:
    assert len(problems_of(tmp_path, '[sip]\nengine = "native"', {variable: "x"})) == 1


@given(st.dictionaries(st.from_regex(r"SIPAGENT__[A-Z0-9_]{0,20}", fullmatch=True), st.text(max_size=20), max_size=4))
def test_no_override_makes_reading_fail(environ: dict[str, str]) -> None:
    config, problems = read(None, environ)
    assert isinstance(config, Config)
    assert all(isinstance(problem, ConfigError) for problem in problems)


# ---- secrets


def test_secrets_come_from_the_credentials_directory(tmp_path: Path) -> None:
    (tmp_path / "sip-password").write_text("s3cret\n")
    (tmp_path / "http-token").write_text("t0ken\n")
    (tmp_path / "llm").write_text("sk-1\n")
    (tmp_path / "homer").write_text("h0mer\n")
    config = load(
        written(
            tmp_path,
            """
            [[trunk]]
            name = "a"
            server = "a"
            username = "u"
            password_credential = "sip-password"
            [[route]]
            brain = "a:B"
            options = { llm = { api_key_credential = "llm" } }
            brain_options = { api_key_credential = "llm" }
            [hep]
            server = "udp:192.0.2.1:9060"
            password_credential = "homer"
            """,
            '[http]\ntoken_credential = "http-token"',
        ),
        {"CREDENTIALS_DIRECTORY": str(tmp_path)},
    )
    assert config.trunk[0].password == "s3cret"
    assert config.http.token == "t0ken"
    assert config.hep.password == "h0mer" and "h0mer" in secrets_of(config)
    assert config.route[0].brain_options == {"api_key": "sk-1"}
    assert config.route[0].options == {"llm": {"api_key": "sk-1"}}


@pytest.mark.parametrize(
    ("trunk", "environ"),
    [
        ('password_credential = "sip-password"', {}),
        ('password_credential = "none"', {"CREDENTIALS_DIRECTORY": "."}),
        ('password_credential = "../sip-password"', {"CREDENTIALS_DIRECTORY": "."}),
        ('password_credential = "a"\npassword = "b"', {"CREDENTIALS_DIRECTORY": "."}),
    ],
)
def test_a_credential_that_cannot_be_had_is_an_error(tmp_path: Path, trunk: str, environ: dict[str, str]) -> None:
    text = f'[[trunk]]\nname = "a"\nserver = "a"\nusername = "u"\n{trunk}'
    assert list(problems_of(tmp_path, text, environ)) == ["trunk[0].password_credential"]


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    config = load(
        written(
            tmp_path,
            """
            [[trunk]]
            name = "a"
            server = "a"
            username = "u"
            password = "geheim-1"
            [[route]]
            brain = "a:B"
            options = { llm = { api_key = "geheim-2" } }
            """,
            '[http]\ntoken = "geheim-3"',
        ),
        {},
    )
    assert "geheim" not in repr(config)
    assert "geheim" not in f"{config.trunk[0]} {config.http}"


# ---- paths


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "brains").mkdir()
    config = load(written(tmp_path, '[conversation]\nbrain_paths = ["brains"]'), {})
    assert config.conversation.brain_paths == (str(tmp_path / "brains"),)
    assert config.records.directory == str(tmp_path / "calls")
    assert config.conversation.apology == ""
