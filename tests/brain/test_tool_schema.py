"""`@tool`: from type hints and a docstring to a JSON schema, and from a model's arguments to Python values."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import pytest

from sipagent.brain import Brain, End, Stay, tool
from sipagent.brain.tools import read_docstring, tool_methods


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Address:
    street: str
    number: int
    floor: int = 0


class Guest(TypedDict):
    name: str


class Shop(Brain):
    @tool
    async def order(
        self,
        item: str,
        size: Size,
        count: int = 1,
        price: float = 9.5,
        gift: bool = False,
        pay: Literal["cash", "card"] = "card",
        extras: list[str] = [],  # noqa: B006  a default that a user may well write
        note: str | None = None,
        ship_to: Address | None = None,
        guests: list[Guest] | None = None,
        colour: Annotated[str, "an English colour name"] = "red",
    ) -> str:
        """Order something from the shop.

        It takes
        a moment.

        Args:
            item: What to order,
                in the caller's words.
            count (int): How many.

        Returns:
            A receipt.
        """
        assert isinstance(size, Size) and isinstance(extras, list)
        if ship_to is not None:
            assert isinstance(ship_to, Address)
        return f"{count} {item} {size.value} {price} {gift} {pay} {extras} {note} {ship_to} {guests} {colour}"

    @tool(name="bye", filler="One moment.", timeout_s=2.0)
    def goodbye(self) -> End:
        """Say goodbye."""
        return End("done", "Goodbye.")


def schema(name: str = "order") -> dict[str, Any]:
    described = {tool.name: tool for tool in Shop().tools()}
    return dict(described[name].parameters)


def test_the_schema_has_every_parameter_with_type_default_and_description() -> None:
    properties = schema()["properties"]
    assert properties["item"] == {"type": "string", "description": "What to order, in the caller's words."}
    assert properties["size"] == {"type": "string", "enum": ["small", "large"]}
    assert properties["count"] == {"type": "integer", "default": 1, "description": "How many."}
    assert properties["price"] == {"type": "number", "default": 9.5}
    assert properties["gift"] == {"type": "boolean", "default": False}
    assert properties["pay"] == {"type": "string", "enum": ["cash", "card"], "default": "card"}
    assert properties["extras"] == {"type": "array", "items": {"type": "string"}}
    assert properties["note"] == {"type": "string"}
    assert properties["ship_to"] == {
        "type": "object",
        "properties": {"street": {"type": "string"}, "number": {"type": "integer"}, "floor": {"type": "integer"}},
        "required": ["street", "number"],
    }
    assert properties["guests"]["items"]["properties"] == {"name": {"type": "string"}}
    assert properties["colour"] == {"type": "string", "description": "an English colour name", "default": "red"}
    assert schema()["required"] == ["item", "size"]


def test_the_description_is_the_docstring_before_its_sections() -> None:
    order, bye = Shop().tools()
    assert order.description == "Order something from the shop.\n\nIt takes a moment."
    assert (bye.name, bye.description, bye.parameters["properties"]) == ("bye", "Say goodbye.", {})


async def test_arguments_are_converted_to_the_hinted_types() -> None:
    arguments = {
        "item": "tea",
        "size": "large",
        "count": "2",
        "ship_to": {"street": "Main", "number": "4"},
        "guests": [{"name": "Ann"}],
    }
    outcome = await Shop().on_tool_call("order", arguments)
    assert isinstance(outcome, Stay)
    expected = "2 tea large 9.5 False card [] None Address(street='Main', number=4, floor=0) [{'name': 'Ann'}] red"
    assert outcome.result == expected


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"size": "small"}, "item"),
        ({"item": "tea", "size": "huge"}, "size"),
        ({"item": "tea", "size": "small", "count": "many"}, "count"),
        ({"item": "tea", "size": "small", "shape": "round"}, "shape"),
    ],
)
async def test_wrong_arguments_are_told_to_the_model(arguments: dict[str, Any], complaint: str) -> None:
    outcome = await Shop().on_tool_call("order", arguments)
    assert isinstance(outcome, Stay) and complaint in outcome.result["error"]


async def test_an_unknown_tool_is_told_to_the_model() -> None:
    outcome = await Shop().on_tool_call("fly", {})
    assert outcome == Stay({"error": "there is no tool fly"})


async def test_a_sync_tool_that_returns_end_ends_the_conversation() -> None:
    assert await Shop().on_tool_call("bye", {}) == End("done", "Goodbye.")


def test_filler_and_time_limit_stand_with_the_method() -> None:
    described, _ = tool_methods(Shop())["bye"]
    assert (described.filler, described.timeout_s) == ("One moment.", 2.0)


def test_a_default_list_is_not_shared_between_calls() -> None:
    described, _ = tool_methods(Shop())["order"]
    first = described.convert({"item": "a", "size": "small"})["extras"]
    first.append("x")
    assert described.convert({"item": "a", "size": "small"})["extras"] == []


def test_a_subclass_replaces_a_tool_of_the_same_name() -> None:
    class Other(Shop):
        @tool
        def bye(self, reason: str) -> None:
            """Leave."""

    assert [tool.description for tool in Other().tools() if tool.name == "bye"] == ["Leave."]


def test_a_parameter_without_a_usable_hint_is_refused_when_the_class_is_written() -> None:
    with pytest.raises(TypeError, match="parameter thing needs a type hint"):

        @tool
        def untyped(self, thing):  # type: ignore[no-untyped-def]
            """Do."""

    with pytest.raises(TypeError, match="no JSON schema for"):

        @tool
        def odd(self: object, thing: complex) -> None:
            """Do."""

    with pytest.raises(TypeError, match="cannot be described"):

        @tool
        def many(self: object, *things: str) -> None:
            """Do."""


def test_a_docstring_without_sections_is_all_summary() -> None:
    assert read_docstring("Do it.\n  Now: please.") == ("Do it. Now: please.", {})
