"""The folders stand at the top level, imported under `sipagent.`: a table builds them, links show them to tools."""

import shutil
import subprocess
import sys
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


def test_a_wheel_holds_every_module_and_file(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for top in ("sipagent", *LINKED):
        shutil.copytree(ROOT / top, tree / top, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", *(path.name for path in ROOT.glob("LICENSE*"))):
        shutil.copy(ROOT / name, tree / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=tree, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = zipfile.ZipFile(wheel).namelist()
    assert len(held) == len(set(held))
    for package in TABLE["packages"]:
        for path in folder_of(package).iterdir():
            if path.is_file() and path.suffix in (".py", ".wav", ".typed", ".toml", ".html"):
                assert f"{package.replace('.', '/')}/{path.name}" in held, (
                    f"{path.relative_to(ROOT)} is not in the wheel"
                )
