"""The weights of an ONNX file, read without an ONNX library.

An ONNX file is one protobuf message. Only the fields on the way to a tensor are followed (onnx.proto3):

    ModelProto.graph = 7 → GraphProto.node = 1 → NodeProto.attribute = 5 → AttributeProto.t = 5, .g = 6 (a sub-graph)
                           GraphProto.initializer = 5 → TensorProto: dims = 1, data_type = 2, name = 8, raw_data = 9

A weight is named by its initializer, or by the output of the `Constant` node that holds it.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.errors import ParseError

Weights = dict[str, NDArray[np.float32]]

_FLOAT32: Final = 1  # TensorProto.DataType.FLOAT
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf wire types


def read(model: bytes) -> Weights:
    """Every float32 tensor of a serialized ModelProto, by name; raises ParseError when it is not one."""
    weights: Weights = {}
    for number, value in _fields(model):
        if number == 7 and isinstance(value, bytes):
            weights.update(_graph(value))
    if not weights:
        raise ParseError("an ONNX model with weights")
    return weights


def _graph(data: bytes) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            yield from _node(value)
        elif number == 5:
            name, tensor = _tensor(value)
            if tensor is not None:
                yield name, tensor


def _node(data: bytes) -> Iterator[tuple[str, NDArray[np.float32]]]:
    output, tensors, graphs = "", [], []
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 2:
            output = value.decode()
        elif number == 5:
            for inner, content in _fields(value):
                if inner == 5 and isinstance(content, bytes):
                    tensors.append(content)
                elif inner == 6 and isinstance(content, bytes):
                    graphs.append(content)
    for content in tensors:
        tensor = _tensor(content)[1]
        if tensor is not None:
            yield output, tensor
    for content in graphs:
        yield from _graph(content)


def _tensor(data: bytes) -> tuple[str, NDArray[np.float32] | None]:
    name, data_type, raw = "", 0, b""
    shape: list[int] = []
    for number, value in _fields(data):
        if number == 1:
            shape.extend([value] if isinstance(value, int) else _varints(value))
        elif number == 2 and isinstance(value, int):
            data_type = value
        elif number == 8 and isinstance(value, bytes):
            name = value.decode()
        elif number == 9 and isinstance(value, bytes):
            raw = value
    if data_type != _FLOAT32 or len(raw) != 4 * int(np.prod(shape, dtype=np.int64)):
        return name, None
    return name, np.frombuffer(raw, "<f4").reshape(shape).astype(np.float32)


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            length, at = _varint(data, at)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise ParseError("a protobuf wire type", at)
        if at + length > len(data):
            raise ParseError(f"{length} bytes of field {number}", at)
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ParseError("a protobuf varint", at)
