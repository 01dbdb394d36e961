import asyncio
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog.testing
from typer.testing import CliRunner, Result

from sipagent.cli import app
from sipagent.errors import SipagentError
from sipagent.http.server import HttpServer
from sipagent.service.config.tree import Http
from tests.http.fake import CONFIG, FakeControl


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sipagent.toml"
    assert run("init", path).exit_code == 0
    return path


def test_init_writes_a_file_that_check_accepts(config: Path) -> None:
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    config.write_text(config.read_text().replace('#listen = ["udp:0', 'listen = ["udp:127.0.0.1:29010"]\n#'))
    result = run("check", "--config", config)
    assert result.exit_code == 0, result.output
    assert "ok" in result.output


def test_init_does_not_overwrite(config: Path) -> None:
    before = config.read_text()
    result = run("init", config)
    assert result.exit_code == 1
    assert isinstance(result.exception, SipagentError)
    assert config.read_text() == before
    assert run("init", "--force", config).exit_code == 0
    assert config.read_text() != before


def test_check_names_every_field_and_its_fix(tmp_path: Path) -> None:
    path = tmp_path / "sipagent.toml"
    path.write_text('[sip]\nengin = "native"\n[media]\nports = [16001, 17000]\n')
    result = run("check", "--config", path)
    assert result.exit_code == 1
    for words in ("sip.engin", "did you mean engine?", "media.ports", "start at 16002", "http.token"):
        assert words in result.output


def test_check_imports_the_brains_and_reads_their_options(config: Path) -> None:
    (config.parent / "fine_brain.py").write_text(
        "from sipagent.brain.base import Brain\n\nclass Fine(Brain):\n    pass\n"
    )
    (config.parent / "torn_brain.py").write_text("import no_such_module_anywhere\n")
    with config.open("a") as file:
        for brain, options in (
            ("fine_brain:Fine", "{}"),
            ("torn_brain:X", "{}"),
            ("fine_brain:Fine", "{ nonsense = 1 }"),
        ):
            file.write(f'[[route]]\nbrain = "{brain}"\noptions = {options}\n')
    result = run("check", "--config", config)
    assert result.exit_code == 1
    assert "route[0].brain" not in result.output
    assert "route[1].brain: module 'torn_brain' needs 'no_such_module_anywhere'" in result.output
    assert "route[2].options" in result.output
    assert "route[1]: is never reached" in result.output


def test_serve_does_not_start_with_a_wrong_configuration(tmp_path: Path) -> None:
    path = tmp_path / "sipagent.toml"
    path.write_text("[sip]\nlisten = []\n")
    result = run("serve", "--config", path)
    assert result.exit_code == 1
    assert "sip.listen" in result.output


def test_version_is_the_installed_one() -> None:
    assert run("version").output.strip()[0].isdigit()


# ---- a running service


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def service(control: FakeControl, tmp_path: Path) -> Iterator[Path]:
    """A configuration file whose endpoint answers, in a loop of its own."""
    listen = f"unix:{tmp_path}/http.sock"
    path = tmp_path / "running.toml"
    path.write_text(f'[http]\nlisten = "{listen}"\n')
    settings = msgspec.structs.replace(CONFIG, http=Http(listen=listen))
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = HttpServer(settings, control)
        await server.start()
        started.set()
        await stop.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10)
    with structlog.testing.capture_logs():
        yield path
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def test_a_call_is_placed_followed_listed_and_ended(service: Path, control: FakeControl) -> None:
    control.happen("transcript", role="user", text="[hello]")
    control.over = True
    placed = run("call", "+4930123456", "--variable", "name=Ada", "-c", service)
    assert placed.exit_code == 0, placed.output
    assert placed.output.splitlines()[0] == "c1"
    assert "text=[hello]" in placed.output
    assert control.requests[0].variables == {"name": "Ada"}
    listed = json.loads(run("calls", "--json", "-c", service).output)
    assert [call["id"] for call in listed] == ["c1"]
    assert "+4930123456" in run("calls", "-c", service).output
    assert run("hangup", "c1", "-c", service).output == "ending\n"
    assert "INVITE sip:agent@127.0.0.1" in run("ladder", "c1", "-c", service).output


def test_a_ladder_is_drawn_into_a_private_file(service: Path, tmp_path: Path) -> None:
    run("call", "+4930123456", "--no-follow", "-c", service)
    drawing = tmp_path / "call.svg"
    assert run("ladder", "c1", "--svg", drawing, "-c", service).exit_code == 0
    assert drawing.read_text().startswith("<svg")
    assert stat.S_IMODE(drawing.stat().st_mode) == 0o600
    assert "cannot be written" in str(run("ladder", "c1", "--svg", tmp_path / "no" / "x.svg", "-c", service).exception)


def test_a_capture_is_begun_ended_and_fetched_into_a_private_file(
    service: Path, control: FakeControl, tmp_path: Path
) -> None:
    run("call", "+4930123456", "--no-follow", "-c", service)
    assert run("capture", "c1", "-c", service).exit_code == 0
    file = tmp_path / "call.pcapng"
    refused = run("capture", "c1", "--output", file, "-c", service)
    assert "has no capture" in str(refused.exception) and not file.exists()
    control.capture_file = tmp_path / "kept.pcapng"
    control.capture_file.write_bytes(b"pcapng" * 100_000)
    assert run("capture", "c1", "--stop", "--output", file, "-c", service).exit_code == 0
    assert control.asked == [("capture", "c1"), ("no capture", "c1")]
    assert file.read_bytes() == b"pcapng" * 100_000 and stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_refusal_is_told_in_words(service: Path) -> None:
    result = run("call", "4930", "-c", service)
    assert result.exit_code == 1
    assert "E.164" in str(result.exception)


def test_without_a_service_the_error_says_where_it_was_sought() -> None:
    result = run("calls", "--url", "http://127.0.0.1:29999")
    assert result.exit_code == 1
    assert "no service answers at 127.0.0.1:29999" in str(result.exception)
