"""The process that decodes a Parquet file, with an upper bound on its memory.

The sizes in a Parquet file's footer and page headers are claims of its writer, and a few kilobytes can decode to
gigabytes. The operating system therefore bounds the memory: `RLIMIT_DATA`, which Linux enforces.

Run by its path, so that nothing else of the package is loaded. Input: the arguments of `decode` as a JSON object.
Output: an Arrow stream of record batches without dictionaries. The exit status says how it ended (`REFUSED`,
`UNREADABLE`, `OUT_OF_MEMORY`), the standard error why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import IOBase
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

REFUSED, UNREADABLE, OUT_OF_MEMORY = 3, 4, 5
"""Exit statuses: values that are too large, an error of pyarrow, too little memory."""

MAX_REASON_CHARACTERS = 2_000
"""Characters of the reason on the standard error; pyarrow's may quote the file."""

BATCH_ROWS = 5_000
"""Rows that are decoded at once."""

_OBJECT_BYTES = 50
"""Bytes that a Python object takes beside its value; counted for values inside lists, maps and structs."""


class Refused(Exception):
    """The file has values that are too large; the message follows "PATH" in a sentence."""


def decode(
    path: str,
    columns: list[str],
    max_batch_bytes: int,
    max_file_bytes: int,
    output: IOBase,
) -> None:
    """Write the columns of the file to `output`, in batches of at most `max_batch_bytes` once decoded.

    Raises `Refused` for a row that is larger, and where all rows have more than `max_file_bytes`.
    """
    with pq.ParquetFile(path, pre_buffer=False, memory_map=False) as file:
        # text stays in its dictionary until its decoded size is known
        texts = [
            file.schema.column(index).path for index in range(len(file.schema.names)) if _has_dictionary(file, index)
        ]
        plain = pa.schema([pa.field(name, _plain(file.schema_arrow.field(name).type)) for name in columns])
    with (
        pq.ParquetFile(
            path,
            pre_buffer=False,
            memory_map=False,
            buffer_size=1 << 20,
            read_dictionary=texts,
            page_checksum_verification=True,
        ) as file,
        pa.ipc.new_stream(output, plain) as writer,
    ):
        # the dictionaries of two row groups differ, and pyarrow cannot join those inside a list, map or struct
        is_nested = any(pa.types.is_nested(kind) for kind in plain.types)
        groups = [[number] for number in range(file.num_row_groups)] if is_nested else [None]
        batches = (
            file.iter_batches(batch_size=BATCH_ROWS, row_groups=group, columns=columns, use_threads=False)
            for group in groups
        )
        for batch in split(chain.from_iterable(batches), max_batch_bytes, max_file_bytes):
            values = [
                column if column.type == kind else column.cast(kind)
                for column, kind in zip(batch.columns, plain.types, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(values, schema=plain))


def split(batches: Iterable[Any], max_batch_bytes: int, max_file_bytes: int) -> Iterator[Any]:
    """The batches, cut where their rows are large; arguments and errors as in `decode`."""
    rows = total = 0
    for batch in batches:
        parts = [batch]
        while parts:
            part = parts.pop()
            size = sum(map(decoded_bytes, part.columns))
            if size > max_batch_bytes:
                if len(part) == 1:
                    raise Refused(f", row {rows + 1:,}: has {size:,} bytes; at most {max_batch_bytes:,} can be read")
                half = len(part) // 2
                parts += [part.slice(half), part.slice(0, half)]
                continue
            total += size
            if total > max_file_bytes:
                after = f"after row {rows:,} its" if rows else "its"
                raise Refused(
                    f": {after} values take more than {max_file_bytes:,} bytes, too many for the size of the file; is"
                    " this an export? Save it without repeating large values"
                )
            yield part
            rows += len(part)


def decoded_bytes(column: Any) -> int:
    """The size of a column's values once every row has its own copy of what dictionaries hold once."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        values = column.dictionary
        if not _has_lengths(kind.value_type):
            return len(column) * (int(values.nbytes) // max(len(values), 1) + 1)
        lengths = pc.binary_length(values).take(column.indices)
    elif _has_lengths(kind):
        lengths = pc.binary_length(column)
    elif pa.types.is_struct(kind):
        return sum(_nested_bytes(column.field(index)) for index in range(kind.num_fields))
    elif pa.types.is_map(kind):
        first, end = column.offsets[0].as_py(), column.offsets[-1].as_py()  # keys and items ignore a slice
        return sum(_nested_bytes(part.slice(first, end - first)) for part in (column.keys, column.items))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _nested_bytes(column.flatten())
    else:
        return max(int(column.nbytes), len(column))
    return len(column) + int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)


def _nested_bytes(column: Any) -> int:
    return decoded_bytes(column) + _OBJECT_BYTES * len(column)


def _has_dictionary(file: Any, index: int) -> bool:
    """Whether pyarrow can keep the column in a dictionary: text, in none of the delta encodings."""
    leaf = file.schema.column(index)
    if leaf.physical_type != "BYTE_ARRAY" or leaf.logical_type.type not in ("STRING", "NONE", "JSON", "ENUM"):
        return False
    chunks = (file.metadata.row_group(number).column(index) for number in range(file.metadata.num_row_groups))
    return not any(encoding.startswith("DELTA") for chunk in chunks for encoding in chunk.encodings)


def _has_lengths(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
    )


def _plain(kind: Any) -> Any:
    """The type without dictionaries and views, which pyarrow cannot cast to each other; also inside nested types."""
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    return kind


def main() -> int:
    """Decode the file that the standard input names; the exit status."""
    import resource  # not on Windows, where the constants of this module are imported too

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.load(sys.stdin)
    memory = request.pop("max_memory_bytes")
    with suppress(OSError):  # only Linux has /proc, and only Linux enforces the limit
        memory += int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    pa.set_memory_pool(pa.system_memory_pool())  # others reserve memory ahead
    try:
        decode(**request, output=cast("IOBase", sys.stdout.buffer))
    except Refused as refused:
        status, reason = REFUSED, str(refused)
    except MemoryError:
        status, reason = OUT_OF_MEMORY, ""
    except (pa.ArrowException, OSError) as error:
        status, reason = UNREADABLE, str(error)
    else:
        return 0
    sys.stderr.write(reason[:MAX_REASON_CHARACTERS])
    return status


if __name__ == "__main__":
    sys.exit(main())
