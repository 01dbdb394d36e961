"""From "module:Class" to a brain, and what is said when that cannot be done."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sipagent.brain import Brain, Tool
from sipagent.brain.base import ContractBrain
from sipagent.brain.contract import Stay, ToolOutcome
from sipagent.brain.loader import add_paths, build_brain, load_brain
from sipagent.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    add_paths((str(tmp_path),))
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


class Bare:
    """The six methods and nothing else."""

    def __init__(self, prompt: str = "Be brief.") -> None:
        self.prompt = prompt

    def system_prompt(self) -> str:
        return self.prompt

    def tools(self) -> Sequence[Tool]:
        return ()

    async def on_tool_call(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        return Stay(name)

    def is_finished(self) -> bool:
        return False

    def collected_vars(self) -> Mapping[str, Any]:
        return {"a": 1}

    def current_node_id(self) -> str:
        return "start"


def test_a_brain_is_found_in_a_configured_folder_and_gets_its_options(folder: Path) -> None:
    write(
        folder,
        "my_first_brain",
        "from sipagent.brain import Brain\nclass Mine(Brain):\n    def __init__(self, shop): self.shop = shop\n",
    )
    brain = build_brain("my_first_brain:Mine", {"shop": "Tea House"})
    assert isinstance(brain, Brain) and vars(brain)["shop"] == "Tea House"


async def test_a_class_with_only_the_six_methods_is_a_brain_too() -> None:
    brain = build_brain(f"{__name__}:Bare", {"prompt": "Hi."})
    assert isinstance(brain, ContractBrain)
    assert brain.system_prompt() == "Hi." and brain.collected_vars() == {"a": 1}
    assert await brain.on_tool_call("x", {}) == Stay("x")
    assert (await brain.on_user_turn("hello"), brain.tools(), brain.is_finished()) == (None, (), False)
    assert brain.current_node_id() == "start"


@pytest.mark.parametrize("reference", ["", "receptionist", "receptionist:", ":Receptionist"])
def test_a_reference_that_is_not_module_and_class_says_what_to_write(reference: str) -> None:
    with pytest.raises(ConfigError, match='write "module:Class"') as caught:
        load_brain(reference, "route[2].brain")
    assert caught.value.field == "route[2].brain"


def test_a_module_that_is_not_there_says_where_to_put_it() -> None:
    with pytest.raises(ConfigError, match=r"no module 'no\.such_brain'.*no/such_brain\.py"):
        load_brain("no.such_brain:Brain")


def test_a_module_that_needs_another_names_that_one(folder: Path) -> None:
    write(folder, "needs_a_lot", "import a_package_that_is_missing\n")
    with pytest.raises(ConfigError, match="'needs_a_lot' needs 'a_package_that_is_missing'"):
        load_brain("needs_a_lot:Brain")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n1 / 0\n", r"ZeroDivisionError: division by zero \(broken_brain\.py, line 2\)"),
        ("class Broken(:\n", r"SyntaxError: .*\(broken_brain\.py, line 1\)"),
        ("from sipagent.brain import NoSuchThing\n", "ImportError: cannot import name 'NoSuchThing'"),
    ],
)
def test_a_module_that_does_not_import_says_why_and_where(folder: Path, text: str, message: str) -> None:
    write(folder, "broken_brain", text)
    with pytest.raises(ConfigError, match=message):
        load_brain("broken_brain:Broken")


def test_a_class_that_is_not_there_names_those_that_are(folder: Path) -> None:
    write(folder, "other_brain", "from sipagent.brain.base import Brain\nclass There(Brain): pass\n")
    with pytest.raises(ConfigError, match=r"no class 'Their'.*There"):
        load_brain("other_brain:Their")


def test_a_class_that_is_no_brain_says_what_it_lacks(folder: Path) -> None:
    write(folder, "half_brain", "class Half:\n    def system_prompt(self): return ''\n")
    with pytest.raises(ConfigError, match="lacks tools, on_tool_call"):
        load_brain("half_brain:Half")


def test_options_that_a_brain_does_not_take_name_the_field() -> None:
    with pytest.raises(ConfigError, match="unexpected keyword argument 'colour'") as caught:
        build_brain(f"{__name__}:Bare", {"colour": "red"}, "route[0]")
    assert caught.value.field == "route[0].brain_options"
