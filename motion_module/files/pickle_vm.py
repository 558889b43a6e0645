"""A pickle's instructions, run as far as plain data needs them, and within limits.

A pickle is a program, and the library's own machine for it can be crashed or filled up by a small file: with a key that
is a tuple a million deep, a memo of billions of places, dictionaries by the million. Python's spare machine, which is
written in Python, cannot be crashed; the instructions that need care are replaced here.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn, Protocol

# Far beyond all weights files: that of a whole SDXL with its optimizer has 1 MB of pickle, in half a million pieces.
MAX_PICKLE_BYTES = 64 << 20  # bytes
_MAX_READS = 2_000_000  # instructions and their arguments
_MAX_LINE = 1 << 16
_MAX_INTEGER = 1 << 63
_STORAGE_ID_LENGTHS = (5, 6)  # in archives; before torch 1.6


class OutsizedError(Exception):
    """A file has something of which no weights file has so much; the message continues the file's name."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}. No weights file is like that: it is damaged, or made to do harm. Do not use it.")


class Stub:
    """Stands for an object of an unknown class: takes whatever the pickle does to it and does nothing."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Take an item of what was a list."""


class _File(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def readline(self, limit: int, /) -> bytes: ...


class _LimitedFile:
    """A file that gives so many bytes, in so many pieces, and no more."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self._bytes = MAX_PICKLE_BYTES
        self._pieces = _MAX_READS

    def read(self, size: int) -> bytes:
        self._bytes -= size
        self._pieces -= 1
        if self._bytes < 0 or self._pieces < 0:
            raise OutsizedError("the pickle in it is too large")
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(_MAX_LINE)
        if len(line) == _MAX_LINE:
            raise OutsizedError("the pickle in it has too long a line")
        self._bytes -= len(line)
        return line


class PlainUnpickler(pickle._Unpickler):
    """Makes dictionaries, lists, tuples, texts, numbers, and what `find_class` gives.

    A dictionary keeps what it has under texts and numbers; weights are under nothing else. A set is inert, since other
    keys could be of any depth. What is set as an object's state is dropped: nothing here has one.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]]
    stack: list[Any]
    append: Callable[[Any], None]  # to the stack
    pop_mark: Callable[[], list[Any]]  # what lies above the last mark on it
    read: Callable[[int], bytes]

    def __init__(self, file: _File, *, encoding: str = "utf-8") -> None:
        super().__init__(_LimitedFile(file), encoding=encoding)

    def persistent_load(self, pid: Any) -> Any:
        """What stands outside of the pickle: a storage."""
        raise NotImplementedError

    def _persistent(self) -> None:
        pid = self.stack.pop()
        self.append(self.persistent_load(pid) if _is_storage(pid) else Stub())

    def _frame(self) -> None:
        self.read(8)  # its length: what is in it needs no announcement

    def _dictionary(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._keep(items)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._keep([key, value])

    def _set_items(self) -> None:
        self._keep(self.pop_mark())

    def _keep(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update((key, value) for key, value in zip(items[::2], items[1::2], strict=True) if _is_plain(key))
        elif not isinstance(target, Stub):
            raise pickle.UnpicklingError("what has items set is no dictionary")

    def _empty_set(self) -> None:
        self.append(Stub())

    def _add_items(self) -> None:
        self.pop_mark()

    def _frozen_set(self) -> None:
        self.pop_mark()
        self.append(Stub())

    def _build(self) -> None:
        self.stack.pop()

    def _unknown(self) -> NoReturn:
        raise pickle.UnpicklingError("an instruction that no weights need")


# Instances of classes of Python 2; classes by numbers in a table of the running program; bytes outside of the file.
_UNNEEDED = (
    *(pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.PERSID),
)
_REPLACEMENTS = {
    pickle.BINPERSID: PlainUnpickler._persistent,
    pickle.FRAME: PlainUnpickler._frame,
    pickle.DICT: PlainUnpickler._dictionary,
    pickle.SETITEM: PlainUnpickler._set_item,
    pickle.SETITEMS: PlainUnpickler._set_items,
    pickle.EMPTY_SET: PlainUnpickler._empty_set,
    pickle.ADDITEMS: PlainUnpickler._add_items,
    pickle.FROZENSET: PlainUnpickler._frozen_set,
    pickle.BUILD: PlainUnpickler._build,
    **dict.fromkeys(_UNNEEDED, PlainUnpickler._unknown),
}
PlainUnpickler.dispatch = {
    **pickle._Unpickler.dispatch,
    **{instruction[0]: instead for instruction, instead in _REPLACEMENTS.items()},
}


def empty_dictionary(*_items: object) -> Mapping[str, Any]:
    """For a pickle that makes an `OrderedDict`, which it fills afterwards."""
    return OrderedDict()


def _is_plain(key: object) -> bool:
    return type(key) is str or _is_number(key)


def _is_number(value: object) -> bool:
    return type(value) is int and abs(value) < _MAX_INTEGER


def _is_storage(pid: object) -> bool:
    """Whether this is torch's way to speak of a storage: of what, which, where, how many; in old files which part."""
    if not isinstance(pid, tuple) or len(pid) not in _STORAGE_ID_LENGTHS:
        return False
    what, _, key, place, length, *part = pid
    of_part = [value for view in part if isinstance(view, tuple) for value in view]
    return (
        type(what) is str
        and what == "storage"
        and type(place) is str
        and _is_number(length)
        and all(map(_is_plain, [key, *of_part]))
    )
