"""The folders stand at the top level, imported under `sipagent.`: a table builds them, links show them to tools."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TABLE = SETTINGS["tool"]["setuptools"]
LINKED = tuple(sorted(folder for folder in TABLE["package-dir"].values() if folder != "sipagent"))


def folder_of(package: str) -> Path:
    """Where the table says that a package lies."""
    known: dict[str, str] = TABLE["package-dir"]
    for name in sorted(known, key=len, reverse=True):
        if package == name or package.startswith(name + "."):
            return ROOT / known[name] / package.removeprefix(name).removeprefix(".").replace(".", "/")
    raise AssertionError(f"{package} is not in package-dir")


def packages_on_disk() -> set[str]:
    found = set()
    for top, prefix in (("sipagent", "sipagent"), *((name, f"sipagent.{name}") for name in LINKED)):
        for init in (ROOT / top).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / top).parts
            if top == "sipagent" and below and below[0] in LINKED:
                continue  # through the link
            found.add(".".join((prefix, *below)))
    return found


def test_every_package_is_in_the_table() -> None:
    missing = packages_on_disk() - set(TABLE["packages"])
    assert not missing, f"add to [tool.setuptools] packages in pyproject.toml: {', '.join(sorted(missing))}"


def test_the_table_names_no_package_that_is_gone() -> None:
    gone = [name for name in TABLE["packages"] if not any(folder_of(name).glob("*.py"))]
    assert not gone, f"remove from [tool.setuptools] packages in pyproject.toml: {', '.join(gone)}"


@pytest.mark.parametrize("name", LINKED)
def test_each_link_is_relative_and_in_place(name: str) -> None:
    link = ROOT / "sipagent" / name
    assert link.is_symlink(), f"sipagent/{name} is no link; mend it with: ln -s ../{name} sipagent/{name}"
    assert str(link.readlink()) == f"../{name}"


def test_the_layers_are_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive, built from what git would give a newcomer."""
    folder = tmp_path_factory.mktemp("archives")
    tree = folder / "tree"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for top in ("sipagent", "docs", "systemd", "deploy", *LINKED):
        shutil.copytree(ROOT / top, tree / top, symlinks=True, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, tree / path.name)
    build = "import sys; from setuptools import build_meta as build; to = sys.argv[1]"  # setuptools rewrites sys.argv
    build += "; build.build_wheel(to); build.build_sdist(to)"
    result = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=tree, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return folder


def files_of(package: str) -> list[Path]:
    suffixes = (".py", ".wav", ".typed", ".toml", ".html")
    return [path for path in folder_of(package).iterdir() if path.is_file() and path.suffix in suffixes]


def test_a_wheel_holds_every_module_and_file(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    held = zipfile.ZipFile(wheel).namelist()
    assert len(held) == len(set(held))
    for package in TABLE["packages"]:
        for path in files_of(package):
            assert f"{package.replace('.', '/')}/{path.name}" in held, f"{path.relative_to(ROOT)} is not in the wheel"


def test_the_licence_goes_where_the_wheel_goes(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (folder,) = {name.partition("/")[0] for name in opened.namelist() if ".dist-info/" in name}
        assert "License-Expression: Apache-2.0" in opened.read(f"{folder}/METADATA").decode().splitlines()
        assert "GNU General" in opened.read(f"{folder}/licenses/NOTICE").decode()
        text = opened.read(f"{folder}/licenses/LICENSE").decode()
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "NOTICE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "Makefile",
        "requirements-models.txt",
        "systemd/sipagent.service",
        "deploy/nftables.conf",
        "docs/configuration.md",
    ],
)
def test_a_source_archive_tells_how_to_use_change_and_trust_it(archives: Path, name: str) -> None:
    (archive,) = archives.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        assert f"{archive.name.removesuffix('.tar.gz')}/{name}" in opened.getnames(), f"add {name} to MANIFEST.in"


def test_a_source_archive_holds_every_module_and_file(archives: Path) -> None:
    (archive,) = archives.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        held = set(opened.getnames())
    for package in TABLE["packages"]:
        for path in files_of(package):
            name = path.relative_to(ROOT)
            assert f"{archive.name.removesuffix('.tar.gz')}/{name}" in held, f"{name} is not in the source archive"


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "NOTICE"])
def test_what_a_document_points_at_is_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    quoted = re.findall(
        r"`((?:sipagent|rtp|sdp|codecs|pipeline|tests|docs|systemd|deploy|bench|examples)/[^`\s]*)`", text
    )
    gone = [target for target in (*links, *quoted) if not (ROOT / target).exists()]
    assert not gone, f"{name} points at what is not there: {', '.join(gone)}"
