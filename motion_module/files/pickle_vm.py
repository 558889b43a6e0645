"""An interpreter for pickles that only builds plain data, with limits on size.

A pickle is a program. A small file can crash the interpreter in C or exhaust memory: by a key that is a tuple nested a
million times, a memo with billions of entries, millions of dictionaries. Python's fallback interpreter, written in
Python, cannot be crashed; instructions that need care are replaced here.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn, Protocol

# Far beyond real files: a whole SDXL with its optimizer has a pickle of 1 MB, read in half a million pieces.
MAX_PICKLE_BYTES = 64 << 20  # bytes
_MAX_READS = 2_000_000  # instructions and arguments
_MAX_LINE = 1 << 16
_MAX_INTEGER = 1 << 63
_STORAGE_ID_LENGTHS = (5, 6)  # in archives; in files of torch before 1.6


class OutsizedError(Exception):
    """A file exceeds a limit that no real weights file comes near. The message is a clause, such as "it has ..."."""


class Stub:
    """Replaces an object of an unknown class: accepts all operations of the pickle and does nothing."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Ignore an item, for stubs of lists."""


class _File(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def readline(self, limit: int, /) -> bytes: ...


class _LimitedFile:
    """A file with limits on the number of bytes and of reads."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self._bytes = MAX_PICKLE_BYTES
        self._pieces = _MAX_READS

    def read(self, size: int) -> bytes:
        self._bytes -= size
        self._pieces -= 1
        if self._bytes < 0 or self._pieces < 0:
            raise OutsizedError("its pickle is too large")
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(_MAX_LINE)
        if len(line) == _MAX_LINE:
            raise OutsizedError("its pickle has too long a line")
        self._bytes -= len(line)
        return line


class PlainUnpickler(pickle._Unpickler):
    """Builds dictionaries, lists, tuples, strings, numbers, and what `find_class` returns.

    Dictionaries keep entries under strings and integers only, where all weights are. Sets become stubs, because their
    members could be nested arbitrarily deep. Object state is dropped, because no object here has any.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]]
    stack: list[Any]
    append: Callable[[Any], None]  # pushes to the stack
    pop_mark: Callable[[], list[Any]]  # pops everything above the last mark
    read: Callable[[int], bytes]

    def __init__(self, file: _File, *, encoding: str = "utf-8") -> None:
        super().__init__(_LimitedFile(file), encoding=encoding)

    def persistent_load(self, pid: Any) -> Any:
        """Resolve a storage, which is outside the pickle."""
        raise NotImplementedError

    def _persistent(self) -> None:
        pid = self.stack.pop()
        self.append(self.persistent_load(pid) if _is_storage(pid) else Stub())

    def _frame(self) -> None:
        self.read(8)  # skips the frame's length

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
            raise pickle.UnpicklingError("items are set on an object that is not a dictionary")

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
        raise pickle.UnpicklingError("an instruction that weights do not need")


# Python 2 instances; classes by registered numbers; out-of-band buffers.
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
    """Replaces `OrderedDict`, whose items the pickle sets afterwards."""
    return OrderedDict()


def _is_plain(key: object) -> bool:
    return type(key) is str or _is_number(key)


def _is_number(value: object) -> bool:
    return type(value) is int and abs(value) < _MAX_INTEGER


def _is_storage(pid: object) -> bool:
    """Whether this is torch's identifier of a storage: tag, type, key, device, length, and a view in old files."""
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
