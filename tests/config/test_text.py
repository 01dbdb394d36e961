import tomllib
from pathlib import Path

import msgspec

from sipagent.service.config.load import load
from sipagent.service.config.manual import manual
from sipagent.service.config.text import EXAMPLES, init_file, tables, toml_value
from sipagent.service.config.tree import Config

ROOT = Path(__file__).parents[2]


def test_the_manual_is_current() -> None:
    shown = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert shown == manual(), "run: python -m sipagent.service.config.manual > docs/configuration.md"


def test_every_setting_has_its_default_and_a_comment() -> None:
    bare = [f"{table.name}.{setting.name}" for table in tables() for setting in table.settings if not setting.comment]
    assert bare == []


def test_the_file_that_init_writes_is_valid_and_holds_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "sipagent.toml"
    path.write_text(init_file("the-token"), encoding="utf-8")
    config = load(path, {})
    assert config.http.token == "the-token"
    assert msgspec.structs.replace(config.http, token="") == Config().http
    assert (config.sip, config.media, config.limits, config.log) == (
        Config().sip,
        Config().media,
        Config().limits,
        Config().log,
    )


def test_the_file_that_init_writes_lists_every_setting_with_its_default() -> None:
    everything = "\n".join(
        line.removeprefix("#") if "# " not in line[:2] else line for line in init_file().splitlines()
    )
    tree = tomllib.loads(everything)
    for table in tables():
        written = tree[table.name][0] if table.many else tree[table.name]
        assert set(written) == {setting.name for setting in table.settings}
        for setting in table.settings:
            if setting.default is not None and setting.name != "token" and (table.name, setting.name) not in EXAMPLES:
                assert toml_value(written[setting.name]) == setting.default


def test_each_new_file_has_a_token_of_its_own() -> None:
    assert init_file() != init_file()
