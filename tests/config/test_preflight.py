import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipagent.service.config import preflight
from sipagent.service.config.preflight import findings
from sipagent.service.config.tree import Config, Conversation, Http, Limits, Media, Records, Route, Sip, Trunk


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])


def sound(**more: object) -> Config:
    parts: dict[str, object] = {
        "sip": Sip(listen=("udp:127.0.0.1:29020",)),
        "trunk": (Trunk("office", "trunk.example", username="agent"),),
        "media": Media(address="127.0.0.1", ports=(29030, 29049)),
        "limits": Limits(max_calls=4),
        "http": Http(listen="127.0.0.1:29021", token="long-enough-to-stay-secret"),
        "records": Records(directory="calls"),
        **more,
    }
    return Config(**parts)  # type: ignore[arg-type]


def found(config: Config) -> dict[str, bool]:
    return {finding.field: finding.problem for finding in findings(config) if finding.field != "route"}


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 29034))
        yield 29034


def test_a_sound_configuration_has_nothing_to_say() -> None:
    assert found(sound()) == {}


def test_ports_in_use_are_warnings(taken: int) -> None:
    assert found(sound()) == {"media.ports": False}
    with socket.socket() as http, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sip:
        http.bind(("127.0.0.1", 29021))
        http.listen()
        sip.bind(("127.0.0.1", 29020))
        assert set(found(sound())) == {"media.ports", "http.listen", "sip.listen[0]"}


def test_addresses_of_another_machine_are_problems() -> None:
    elsewhere = sound(
        sip=Sip(listen=("udp:192.0.2.7:29020",)),
        media=Media(address="192.0.2.7", ports=(29030, 29049)),
        http=Http(listen="192.0.2.7:29021", token="long-enough-to-stay-secret"),
    )
    assert found(elsewhere) == {"sip.listen[0]": True, "media.address": True, "http.listen": True}


def test_a_listener_open_to_the_world_and_a_short_token_are_warnings() -> None:
    assert found(sound(http=Http(listen="0.0.0.0:29021", token="long-enough-to-stay-secret"))) == {"http.listen": False}
    assert found(sound(http=Http(listen="127.0.0.1:29021", token="short"))) == {"http.token": False}


def test_certificates_that_are_not_verified_are_a_warning() -> None:
    assert found(sound(sip=Sip(listen=("udp:127.0.0.1:29020",), tls_verify=False))) == {"sip.tls_verify": False}


def test_too_few_open_files_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.resource, "getrlimit", lambda which: (64, 64))  # type: ignore[attr-defined]
    assert found(sound()) == {"limits.max_calls": False}


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert found(sound(records=Records(directory=str(tmp_path / "file" / "calls")))) == {"records.directory": True}


def test_a_brain_that_does_not_import_is_a_problem() -> None:
    assert found(sound(route=(Route("no_such_brain:X", pipeline="echo"),))) == {"route[0].brain": True}


def test_everything_that_is_wrong_with_a_route_is_told_at_once(tmp_path: Path) -> None:
    text = "from sipagent.brain.base import Brain\n\nclass B(Brain):\n    def __init__(self, shop): ...\n"
    (tmp_path / "preflight_options.py").write_text(text)
    wrong = Route("preflight_options:B", options={"voice_sped": 1.1}, brain_options={"shp": "Tea House"})
    config = sound(route=(wrong,), conversation=Conversation(brain_paths=(str(tmp_path),)))
    texts = {finding.field: (finding.text, finding.fix) for finding in findings(config) if finding.problem}
    assert set(texts) == {"route[0].brain_options", "route[0].options.voice_sped"}
    assert texts["route[0].brain_options"][1] == "it takes shop"
    assert texts["route[0].options.voice_sped"][1] == "did you mean voice_speed?"


def test_a_missing_package_of_the_offline_stack_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "preflight_brain.py").write_text("from sipagent.brain.base import Brain\n\nclass B(Brain):\n    pass\n")
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    config = sound(route=(Route("preflight_brain:B"),), conversation=Conversation(brain_paths=(str(tmp_path),)))
    assert found(config) == {"route.pipeline": True}
