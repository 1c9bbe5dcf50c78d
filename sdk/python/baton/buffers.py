"""Payloads: memory of the app's pool that is read and written where it lies."""

from __future__ import annotations

import json as _json
import sys
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from . import _native
from .errors import refusal

if TYPE_CHECKING:
    import numpy
    import pyarrow

__all__ = ["Buffer", "Part", "alloc", "array", "arrow", "part_of", "zeros"]


class Buffer(_native.Buffer):
    """A payload that speaks the buffer protocol: `memoryview(b)`, `bytes(b)`, `numpy.frombuffer(b)` see it in place.

    It moves when it is sent. A buffer that was handed over raises `HandedOver` on the next touch, and one of which views are alive
    cannot be handed over (`StillViewed`). A frozen one (`freeze()`) is shared: it stays readable here, and for any number of others.
    """

    __slots__ = ()

    def array(self, dtype: Any = "uint8", shape: Any = None) -> numpy.ndarray:
        """The payload as a NumPy array, in place: read-only where the payload is."""
        import numpy

        dtype = numpy.dtype(dtype)
        if len(self) % dtype.itemsize:
            raise ValueError(f"a payload of {len(self)} bytes is no array of {dtype}, which has {dtype.itemsize} bytes an item")
        # An empty buffer has nothing to look at, which frombuffer refuses.
        flat = numpy.frombuffer(self, dtype) if len(self) else numpy.empty(0, dtype)
        return flat if shape is None else flat.reshape(shape)

    def arrow(self) -> pyarrow.Table:
        """The payload as an Arrow table, in place. It is in Arrow's IPC format, as `baton.arrow()` writes it."""
        import pyarrow

        return pyarrow.ipc.open_stream(pyarrow.py_buffer(self)).read_all()

    def text(self, encoding: str = "utf-8") -> str:
        """The payload as text."""
        return str(self, encoding)

    def json(self) -> Any:
        """The payload as JSON."""
        return _json.loads(bytes(self))

    def __getitem__(self, index: Any) -> Any:
        """A byte, or a view of some."""
        return memoryview(self)[index]

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        try:
            return memoryview(self) == other
        except TypeError:
            return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not self.alive:
            return "<baton.Buffer, handed over>"
        what = "frozen" if self.frozen else "lent" if self.lent else "owned"
        return f"<baton.Buffer, {len(self)} bytes, {what}>"


_native.use(Buffer, refusal)


def _in_pool(size: int) -> Buffer:
    return _native.alloc(size)  # type: ignore[return-value]


# Tests without a node put another one here.
_alloc: Callable[[int], Buffer] = _in_pool


def alloc(size: int) -> Buffer:
    """A buffer of `size` bytes in the app's pool. What it holds at first is not defined."""
    return _alloc(size)


def array(shape: Any, dtype: Any = "float64") -> numpy.ndarray:
    """A NumPy array in the app's pool, as `numpy.empty`: returned from a handler, or given to `ctx.call`, it is not copied."""
    import numpy

    dtype = numpy.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    count = 1
    for length in shape:
        count *= int(length)
    return alloc(count * dtype.itemsize).array(dtype, shape)


def zeros(shape: Any, dtype: Any = "float64") -> numpy.ndarray:
    """As `array`, of zeros."""
    made = array(shape, dtype)
    made.fill(0)
    return made


def arrow(table: pyarrow.Table | pyarrow.RecordBatch) -> Buffer:
    """An Arrow table, written once, into the app's pool; in IPC format, for `Buffer.arrow()`."""
    import pyarrow

    measure = pyarrow.MockOutputStream()
    with pyarrow.ipc.new_stream(measure, table.schema) as writer:
        writer.write(table)
    buffer = alloc(measure.size())
    sink = pyarrow.FixedSizeBufferWriter(pyarrow.py_buffer(buffer))
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    sink.close()
    return buffer


class Part(NamedTuple):
    """A part of a buffer, to be sent."""

    buffer: Any
    offset: int
    size: int


def _owner(value: Any) -> Buffer | None:
    """The buffer that a view looks at."""
    numpy = sys.modules.get("numpy")
    for _ in range(16):
        if isinstance(value, _native.Buffer):
            return value  # type: ignore[return-value]
        if isinstance(value, memoryview):
            value = value.obj
        elif numpy is not None and isinstance(value, numpy.ndarray):
            value = value.base
        else:
            return None
    return None


def part_of(value: Any) -> Part:
    """What is to be sent for something that has bytes: without a copy where it lies in the pool in one piece."""
    if isinstance(value, _native.Buffer):
        return Part(value, 0, -1)
    owner = _owner(value)
    if owner is not None:
        at = _native.span(value)
        if at is not None:
            return Part(owner, at[0] - owner._address, at[1])
    elif _native.span(value) is not None:
        return Part(value, 0, -1)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return Part(numpy.ascontiguousarray(value).reshape(-1).view("uint8"), 0, -1)
    return Part(bytes(value), 0, -1)
