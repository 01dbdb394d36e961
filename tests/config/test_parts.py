from pathlib import Path

from sipagent.service.config.parts import engine_settings, media_options
from sipagent.service.config.tree import Config, Limits, Media, Records, Sip, Trunk
from sipagent.service.supervisor import make_engine
from sipagent.sip.native import NativeEngine


def test_servers_become_sip_uris() -> None:
    config = Config(trunk=(Trunk("a", "10.0.0.1:5060", outbound_proxy="proxy.example"), Trunk("b", "sips:b.example")))
    settings = engine_settings(config)
    assert [trunk.server for trunk in settings.trunks] == ["sip:10.0.0.1:5060", "sips:b.example"]
    assert settings.trunks[0].outbound_proxy == "sip:proxy.example"
    assert settings.trunks[1].outbound_proxy == ""


def test_engine_settings_do_not_show_a_password() -> None:
    settings = engine_settings(Config(sip=Sip(keepalive_seconds=7), trunk=(Trunk("a", "a", password="geheim"),)))
    assert settings.trunks[0].password == "geheim"
    assert settings.keepalive_s == 7
    assert "geheim" not in repr(settings)


def test_a_restarted_service_is_the_same_instance_to_its_registrars(tmp_path: Path) -> None:
    config = Config(records=Records(directory=str(tmp_path)))
    engines = [make_engine(config) for _ in range(2)]
    kept = (tmp_path / "instance-id").read_text().strip()
    for engine in engines:
        assert isinstance(engine, NativeEngine)
        assert engine._settings.instance_id == kept


def test_keepalive_and_outbound_are_the_operators_choice() -> None:
    settings = engine_settings(Config(sip=Sip(keepalive="stun"), trunk=(Trunk("a", "a", sip_outbound=False),)))
    assert settings.keepalive == "stun"
    assert not settings.trunks[0].sip_outbound


def test_one_plane_has_two_rows_for_each_call() -> None:
    (options,) = media_options(Config(limits=Limits(max_calls=10)))
    assert (options.first_port, options.rows) == (16000, 36)


def test_planes_share_the_range_without_overlap() -> None:
    config = Config(media=Media(ports=(20000, 20019), planes=3), limits=Limits(max_calls=10))
    options = media_options(config)
    assert sum(plane.rows for plane in options) == 10
    ends = [plane.first_port + 2 * plane.rows for plane in options]
    assert [plane.first_port for plane in options] == [20000, *ends[:-1]]
    assert ends[-1] == 20020
