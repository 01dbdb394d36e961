"""The drawn ladder: what is on it, that it is XML whatever far ends write, and that it holds nothing but a drawing."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from sipagent.sip import ladder_svg
from sipagent.sip.ladder import Message
from tests.sip.test_call_flows import assert_nothing_left, established, hangup, pair

SVG = "{http://www.w3.org/2000/svg}"
US, PROXY, PHONE = ("192.0.2.10", 5060), ("198.51.100.7", 5060), ("2001:db8::9", 5062)
DRAWING = {"svg", "title", "style", "rect", "g", "line", "path", "polygon", "text"}


def sent(at: float, text: str, to: tuple[str, int] = PROXY) -> Message:
    return Message(at, "out", text.encode(), "UDP", US, to)


def received(at: float, text: str, of: tuple[str, int] = PROXY) -> Message:
    return Message(at, "in", text.encode(), "TCP", US, of)


def drawn(*messages: Message) -> ElementTree.Element:
    return ElementTree.fromstring(ladder_svg.draw(messages, "call 1").encode())


def arrows(root: ElementTree.Element) -> list[tuple[str, int, int, str]]:
    """Label, direction by the ends of the line (left or right), height, and tooltip."""
    found = []
    for group in root.findall(f"{SVG}g"):
        line = group.find(f"{SVG}line")
        assert line is not None
        way = 1 if int(line.attrib["x2"]) > int(line.attrib["x1"]) else -1
        found.append((group.findtext(f"{SVG}text", ""), way, int(line.attrib["y1"]), group.findtext(f"{SVG}title", "")))
    return found


def test_every_message_of_a_call_is_an_arrow_between_its_addresses_from_top_to_bottom() -> None:
    net, a, b = pair()
    handle, _ = established(net, a, b)
    hangup(a, handle)
    assert_nothing_left(net, a, b)
    root = drawn(*a.agent.ladders.read(handle))
    assert [(label.split(" ")[0], way) for label, way, _, _ in arrows(root)] == [
        ("INVITE", 1), ("100", -1), ("180", -1), ("200", -1), ("ACK", 1), ("BYE", 1), ("200", -1),
    ]  # fmt: skip
    heights = [height for _, _, height, _ in arrows(root)]
    assert heights == sorted(set(heights))
    assert "(SDP)" in arrows(root)[0][0] and "m=audio 4000 RTP/AVP 0" in arrows(root)[0][3]
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert {"10.0.0.1:5060", "10.0.0.2:5060"} <= set(texts)
    assert "0.000 s" in texts


def test_each_address_has_a_line_of_its_own() -> None:
    root = drawn(
        sent(0, "INVITE sip:b@p SIP/2.0"), received(1, "SIP/2.0 200 OK"), sent(1, "ACK sip:b@c SIP/2.0", PHONE)
    )
    lives = [line.attrib["x1"] for line in root.findall(f"{SVG}line[@class='life']")]
    assert len(lives) == len(set(lives)) == 3
    assert [text.text for text in root.findall(f"{SVG}text[@class='name']")] == [
        "192.0.2.10:5060", "198.51.100.7:5060", "[2001:db8::9]:5062",
    ]  # fmt: skip


def test_what_is_sent_again_is_seen_to_be() -> None:
    invite = "INVITE sip:b@p SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n"
    root = drawn(
        sent(0, invite), sent(0.5, invite), sent(1.5, invite), sent(1.6, invite.replace("1 INVITE", "2 INVITE"))
    )
    again = ["again" in group.attrib["class"] for group in root.findall(f"{SVG}g")]
    assert again == [False, True, True, False]
    assert [label[:2] for label, *_ in arrows(root)] == ["IN", "↻1", "↻2", "IN"]


def test_what_far_ends_write_is_text_and_nothing_else() -> None:
    hostile = (
        'INVITE sip:"onload=alert(1)"@x SIP/2.0\r\nSubject: </title><script>alert(1)</script>&x;]]>\x00\x1b\ufffe\r\n'
    )
    text = ladder_svg.draw([received(0, hostile, ('x" onload="alert(1)', 5060))], "</title><script>")
    root = ElementTree.fromstring(text.encode())
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= DRAWING
    assert not [name for element in root.iter() for name in element.attrib if name.startswith(("on", "href", "xlink"))]
    assert "<script" not in text
    assert "<script>alert(1)</script>" in arrows(root)[0][3]


@given(st.lists(st.tuples(st.binary(max_size=60), st.sampled_from(["in", "out"]), st.text(max_size=9)), max_size=4))
def test_any_bytes_become_valid_xml(parts: list[tuple[bytes, str, str]]) -> None:
    messages = [Message(0.0, direction, data, "UDP", (host, 1), ("a", 2)) for data, direction, host in parts]
    root = ElementTree.fromstring(ladder_svg.draw(messages).encode())
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= DRAWING


def test_the_drawing_holds_no_secret_and_follows_light_and_dark() -> None:
    text = ladder_svg.draw(
        [sent(0, "INVITE sip:b@p SIP/2.0\r\nAuthorization: Digest response=1\r\n\r\na=crypto:1 X inline:S3")]
    )
    assert "Digest" not in text and "S3" not in text and "Authorization: ***" in text
    assert "prefers-color-scheme: dark" in text
