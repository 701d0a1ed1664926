"""JSON files read object by object in bounded memory: an array, a list in an object, or objects one after the other."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from usage_explore.errors import LoadError
from usage_explore.files.containers import READ_ERRORS, Content
from usage_explore.files.exact_json import decode_at
from usage_explore.files.sources import MAX_ROW_BYTES, Record, paths, too_many_keys
from usage_explore.files.text_sources import NOT_UTF_8, TextSource, label
from usage_explore.files.values import InvalidValue, quoted

LISTS = ("data", "results", "items", "records", "value")
"""Keys of the list of objects in the response of an API; else the only member that is such a list."""

NEXT_PAGE = frozenset(
    {"hasmore", "hasnextpage", "nextpage", "nextpagetoken", "nexttoken", "nextcursor", "nextlink", "nexturl", "next"}
)
"""Keys beside the list of an API's response whose value, true or a text, says that it is not the last page.

Without underscores and capitals; also "@odata.nextLink", and inside the objects of `ABOUT_PAGES`.
"""

ABOUT_PAGES = frozenset({"pagination", "paging", "page", "pageinfo", "links", "meta", "metadata", "responsemetadata"})
"""Keys beside the list of an API's response whose value, an object, may say that it is not the last page."""

_READ_BYTES = 64 * 1024
_SPACE = re.compile(r"[ \t\r\n\ufeff]*")
_SCALAR_END = re.compile(r"[,\]}\s]")
_STRUCTURE, _STRING_PART = re.compile(r'["{}\[\]]'), re.compile(r'["\\]')

_UNFINISHED_CHARACTERS = 16
"""Characters before the end of what has been read where an error may mean that a value goes on: tru, -Infini, \\ud8."""


class JsonLayout(NamedTuple):
    """Where the records are: in an array, in the list of an object, or objects one after the other.

    `has_allocations` says that the items of the list hold the records by name.
    """

    is_array: bool = False
    list: str | None = None
    has_allocations: bool = False
    unit: str = "line"


class JsonSource(TextSource):
    """A file of JSON objects.

    An array of objects; an object with a list of objects (`LISTS`), as APIs answer; or one or more objects, each of
    them a record. A record has its own columns. In a list of objects that each hold allocations by name, as OpenCost's
    API answers, each allocation is a record, its name as `name`.

    Raises `LoadError` for text that is not JSON, when opened or read. An object with a repeated key is a row that
    cannot be read.
    """

    kind = "json"

    def __init__(self, file: Path | Content, *, encoding: str | None = None, layout: JsonLayout | None = None) -> None:
        super().__init__(file, encoding=encoding)
        try:
            self._layout = layout or self._detected()
        except BaseException:
            self.close()
            raise
        self.unit = self._layout.unit

    def _again(self, layout: JsonLayout) -> JsonSource:
        """The same file from its start."""
        return JsonSource(self.content, encoding=self.encoding, layout=layout)

    def _format(self) -> list[str]:
        if self._layout.list is not None:
            return ["JSON", f"objects in {quoted(self._layout.list)}"]
        return ["JSON array" if self._layout.is_array else "JSON objects"]

    def sample_names(self, rows: int = 100) -> tuple[str, ...]:
        """See `Source.sample_names`."""
        with self._again(self._layout) as again:
            return paths(record for _, record, _ in islice(again, rows) if record)

    def __iter__(self) -> Iterator[Record]:
        if self.unit == "record":
            return ((number, record, reason) for number, (_, record, reason) in enumerate(self._records(), 1))
        return self._records()

    def _detected(self) -> JsonLayout:
        """Where in the file the records are."""
        layout = JsonLayout()
        with self._again(layout) as again:
            text = _Text(again)
            if (opening := text.next_character()) == "[":
                layout = layout._replace(is_array=True)
            elif opening == "{":
                layout = layout._replace(list=again._find_list(text))
        with self._again(layout) as again:
            text = _Text(again)
            if again._enter_list(text):
                layout = layout._replace(has_allocations=again._holds_allocations(text))
        with self._again(layout) as again:
            lines = [line for line, _, _ in islice(again._records(), 2)]
        return layout._replace(unit="record") if len(lines) == 2 and lines[0] == lines[1] else layout

    def _find_list(self, text: _Text) -> str | None:
        """The key of the member that holds the records; None where the object is a record itself."""
        lists: list[str] = []
        is_event = False
        for key in text.members():
            is_event = is_event or key == "specversion"  # a CloudEvent, whose data may be anything
            if text.next_character() != "[":
                text.skip_value()
                continue
            text.take("[")
            first = text.next_character()
            if key in LISTS and first in ("{", "]") and not is_event:
                return key
            if first == "{":
                lists.append(key)
            text.skip_value(depth=1)
        if len(lists) == 1 and not is_event and not text.next_character():
            return lists[0]
        return None

    def _enter_list(self, text: _Text) -> bool:
        """Go to the first item of the first list of records; whether there is one."""
        if text.next_character() == "[":
            text.take("[")
            return True
        if self._layout.list is None:
            return False
        for key in text.members():
            if key == self._layout.list:
                text.take("[")
                return True
            text.skip_value()
        return False

    def _holds_allocations(self, text: _Text) -> bool:
        """Whether the first item that has members has allocations by name in them."""
        for _ in text.items():
            if text.next_character() != "{":
                if text.value()[1] is not None:
                    return False
                continue
            for key in text.members():
                if text.next_character() != "{":
                    return False
                _, value, _ = text.value()
                return (
                    isinstance(value, dict)
                    and "properties" in value
                    and "window" in value
                    and (value.get("name", key) == key)
                )
        return False

    def _records(self) -> Iterator[Record]:
        text = _Text(self)
        while opening := text.next_character():
            if opening == "[":
                yield from self._items(text)
            elif opening == "{" and self._layout.list is not None:
                is_there = False
                for key in text.members():
                    if key == self._layout.list:
                        if is_there or text.next_character() != "[":
                            raise text.error(f"{quoted(key)} is not one list of objects")
                        is_there = True
                        yield from self._items(text)
                    elif _plain(key) in NEXT_PAGE | ABOUT_PAGES:
                        self._note_next_page(key, text.value()[1])
                    elif text.next_character() == "[":
                        text.take("[")
                        if text.next_character() == "{":
                            self._note(f"the objects in {quoted(key)} are not read")
                        text.skip_value(depth=1)
                    else:
                        text.skip_value()
                if not is_there:
                    raise text.error(
                        f"the object that ends here has no list {quoted(self._layout.list)}, as the first has"
                    )
            elif opening == "{":
                yield _record(*text.value())
            else:
                raise text.error("is not JSON: neither an object nor an array begins here")
            text.records += opening == "{" and self._layout.list is None

    def _note_next_page(self, key: str, value: object) -> None:
        if isinstance(value, dict):
            is_link = _plain(key) in NEXT_PAGE
            for name, member in value.items():
                if is_link or _plain(name) in NEXT_PAGE | ABOUT_PAGES:
                    self._note_next_page(f"{key}.{name}", member)
        elif _plain(key) in ABOUT_PAGES:
            return
        elif value is True or (isinstance(value, str) and value):
            self._note(f"one page of several by its {quoted(key)}: load the others, too")

    def _note(self, sentence: str) -> None:
        self.notes = tuple(dict.fromkeys((*self.notes, sentence)))

    def _items(self, text: _Text) -> Iterator[Record]:
        text.take("[")
        for _ in text.items():
            if not self._layout.has_allocations:
                yield _record(*text.value())
            elif text.next_character() != "{":
                line, value, reason = text.value()
                if value is not None or reason:  # OpenCost answers null for a day without allocations
                    yield _record(line, value, reason)
            else:
                for name in text.members():
                    line, value, reason = text.value()
                    if isinstance(value, dict) and value.get("name") is None:
                        value = {"name": name, **{key: item for key, item in value.items() if key != "name"}}
                    yield _record(line, value, reason)
                    text.records += 1
                continue
            text.records += 1


def _plain(key: str) -> str:
    """A key as in `NEXT_PAGE`: that of its last member, without underscores and capitals."""
    return key.removeprefix("@odata.").rpartition(".")[2].replace("_", "").lower()


def _record(line: int, value: Any, reason: str | None) -> Record:
    if reason is None and not isinstance(value, dict):
        reason = "is JSON, but not an object; a record is an object with its columns as keys"
    return (line, None, reason) if reason else (line, value, None)


class _Text:
    """JSON text, decoded as it is read. The text before `_position` has been taken and may be forgotten."""

    def __init__(self, source: JsonSource) -> None:
        self.records = 0
        self._source = source
        self._stream: BinaryIO = source._file
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._buffer, self._position = "", 0
        self._line, self._counted = 1, 0
        self._has_ended = False

    def error(self, problem: str) -> LoadError:
        """The error, with where it is."""
        after = f", after record {self.records:,}" if self.records else ""
        return LoadError(f"{self._source.path}, line {self._line_here():,}{after}: {problem}")

    def _line_here(self) -> int:
        self._line += self._buffer.count("\n", self._counted, self._position)
        self._counted = self._position
        return self._line

    def _fill(self) -> bool:
        """Read as much again as has not been taken; whether there was more."""
        if self._has_ended:
            return False
        self._line_here()
        rest = self._buffer[self._position :]
        try:
            part = self._stream.read(max(_READ_BYTES, len(rest)))
        except READ_ERRORS as error:
            raise self.error(f"cannot be read: {error}") from error
        self._has_ended = not part
        self._buffer = rest + self._decoder.decode(part, self._has_ended)
        self._position = self._counted = 0
        return True

    def next_character(self) -> str:
        """The next character that is not white space, which is not taken; "" at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._fill():
                return ""

    def take(self, character: str) -> None:
        """Take the character. Raises `LoadError` where another one is next."""
        if (there := self.next_character()) != character:
            raise self._unexpected(there, repr(character))
        self._position += 1

    def _unexpected(self, character: str, expected: str) -> LoadError:
        if not character:
            return self.error("the file ends inside a list or an object; was it copied completely?")
        return self.error(f"is not JSON: {expected} expected before {quoted(character)}")

    def items(self) -> Iterator[None]:
        """For each item of the list whose bracket has been taken: the caller takes the item."""
        while self.next_character() != "]":
            yield
            if (there := self.next_character()) == ",":
                self._position += 1
            elif there != "]":
                raise self._unexpected(there, "',' or ']'")
        self._position += 1

    def members(self) -> Iterator[str]:
        """The keys of the object that is next: the caller takes the value of each."""
        self.take("{")
        while self.next_character() != "}":
            if (there := self.next_character()) != '"':
                raise self._unexpected(there, "a key in quotes")
            _, key, reason = self.value()
            if reason:
                raise self.error(f"a key {reason}")
            self.take(":")
            yield key
            if (there := self.next_character()) == ",":
                self._position += 1
            elif there != "}":
                raise self._unexpected(there, "',' or '}'")
        self._position += 1

    def value(self) -> tuple[int, Any, str | None]:
        """Take a value: the line that it begins on, itself, and why it cannot be read. Raises `LoadError`."""
        if not self.next_character():
            raise self._unexpected("", "")
        line = self._line_here()
        reason: str | None = None
        while True:
            try:
                value, end = decode_at(self._buffer, self._position, lenient=reason is not None)
            except json.JSONDecodeError as error:
                is_unfinished = error.pos + _UNFINISHED_CHARACTERS > len(self._buffer) or error.msg.startswith(
                    "Unterminated string"
                )
                if is_unfinished and self._grow(line):
                    continue
                if reason is None:
                    reason = f"is not JSON: {error.msg}"
                    continue
                self._position = error.pos
                raise self._unexpected("", "") if is_unfinished else self.error(reason) from None
            except InvalidValue as error:
                reason = str(error)
                continue
            except RecursionError:
                raise self.error("is nested too deeply") from None
            if end == len(self._buffer) and self._grow(line):  # a number may go on
                continue
            break
        raw = self._buffer[self._position : end]
        if len(raw) > MAX_ROW_BYTES:
            raise self._too_long(line)
        self._position = end
        if not reason and not raw.isascii():
            reason = self._encoding_fault(raw)
        reason = reason or too_many_keys(raw, value)
        return line, None if reason else value, reason

    def _grow(self, line: int) -> bool:
        if len(self._buffer) - self._position > MAX_ROW_BYTES:
            raise self._too_long(line)
        return self._fill()

    def _too_long(self, line: int) -> LoadError:
        return LoadError(f"{self._source.path}, line {line:,}: an object is longer than 16 MiB; is this an export?")

    def _encoding_fault(self, raw: str) -> str | None:
        try:
            raw.encode()
        except UnicodeEncodeError:
            is_utf_8 = self._source.encoding == "utf-8"
            return f"is not {label(self._source.encoding or '')} text{NOT_UTF_8 if is_utf_8 else ''}"
        return None

    def skip_value(self, depth: int = 0) -> None:
        """Take a value of any size, or the rest of one that is `depth` brackets deep, without decoding it."""
        if not depth:
            if not (first := self.next_character()):
                raise self._unexpected("", "")
            if first not in '"{[':
                self._skip_scalar()
                return
        in_string = False
        while True:
            match = (_STRING_PART if in_string else _STRUCTURE).search(self._buffer, self._position)
            if match is None:
                self._position = len(self._buffer)
                if not self._fill():
                    raise self._unexpected("", "")
                continue
            self._position = match.end()
            match match[0]:
                case '"':
                    in_string = not in_string
                case "\\":
                    if self._position == len(self._buffer) and not self._fill():
                        raise self._unexpected("", "")
                    self._position += 1
                case "{" | "[":
                    depth += 1
                case _:
                    depth -= 1
            if not depth and not in_string:
                return

    def _skip_scalar(self) -> None:
        while not (match := _SCALAR_END.search(self._buffer, self._position)):
            self._position = len(self._buffer)
            if not self._fill():
                return
        self._position = match.start()
