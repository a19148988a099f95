"""Datasets that must not get in: shards, clips and images that claim more than they hold, or hold something else."""

import io
import pickle
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from tests.security.attack import Row, dataset, labels
from tests.support.uploads import EMBEDDED, LABELS, picture, shard, table, tone


def one_clip(data: bytes | None) -> bytes:
    return shard([data], ["up"])


def one_image(data: bytes) -> bytes:
    return table(image=(EMBEDDED, [data]), label=(pa.string(), ["up"]))


def long_flac(hours: float) -> bytes:
    """A tenth of a second whose header claims hours."""
    data = bytearray(tone(kind="FLAC"))
    # STREAMINFO (RFC 9639, 8.2): rate, channels and width of a sample in 28 bits, then the number of samples in 36.
    [packed] = struct.unpack(">Q", data[18:26])
    data[18:26] = struct.pack(">Q", packed >> 36 << 36 | int(hours * 3600 * 16_000))
    return bytes(data)


def wav(rate: int, channels: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((8, channels), np.float32), rate, format="WAV")
    return file.getvalue()


def vast_png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def parquet(written: pa.Table, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(written, file, **options)
    return file.getvalue()


def many_rows() -> bytes:
    return parquet(pa.table({"label": pa.nulls(20_000_000, pa.int8())}))


def many_columns() -> bytes:
    return parquet(pa.table({f"c{n}": pa.array([1], pa.int8()) for n in range(2000)}))


def one_word_of_megabytes() -> bytes:
    """A text of 64 MB, stored once and meant by every row."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array(["x" * 2**26]))
    labels = pa.array(["up", "down"] * 2500)
    return parquet(pa.table({"text": words, "label": labels}), compression="zstd", store_schema=False)


def wide_group() -> bytes:
    """Three gigabytes of zeros in one row group, packed to kilobytes."""
    column = pa.array(np.zeros(2**22, np.int64))
    columns = {f"c{number}": column for number in range(100)}
    return parquet(pa.table(columns), compression="zstd", use_dictionary=False, row_group_size=2**22)


def truncated() -> bytes:
    whole = one_clip(tone())
    return whole[: len(whole) // 2]


def lying_footer() -> bytes:
    whole = bytearray(one_clip(tone()))
    [length] = struct.unpack("<I", whole[-8:-4])
    whole[-8 - length : -8] = bytes(length)
    return bytes(whole)


ROWS: tuple[Row, ...] = (
    dataset("a shard of no bytes", "file_type_refused", lambda: b""),
    dataset("noise between the marks of parquet", "dataset_schema", lambda: b"PAR1" + bytes(range(256)) * 4 + b"PAR1"),
    dataset("half a shard", "file_type_refused", truncated),
    dataset("a footer of zeros", "dataset_schema", lying_footer),
    dataset("a footer longer than the file", "dataset_schema", lambda: b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1"),
    dataset("a pickle named parquet", "file_type_refused", lambda: pickle.dumps({})),
    dataset("text named parquet", "file_type_refused", lambda: b"a,b\n1,2\n"),
    dataset("no rows", "dataset_empty", lambda: shard([], [])),
    dataset("twenty million rows in a few kilobytes", "dataset_schema", many_rows),
    dataset("two thousand columns", "dataset_schema", many_columns),
    dataset("a text of 64 MB, stored once for five thousand rows", "dataset_schema", one_word_of_megabytes),
    dataset("a row group that unpacks to gigabytes", "dataset_schema", wide_group),
    dataset("rows that name files of the server", "dataset_schema", lambda: one_clip(None)),
    labels("labels longer than labels are", "dataset_schema", lambda: shard([tone()], ["x" * 10**6])),
    labels("a label of NUL", "dataset_schema", lambda: shard([tone()], ["a\0b"])),
    dataset("a clip that is text", "audio_undecodable", lambda: one_clip(b"not a clip" * 100)),
    dataset("a clip that is a pickle", "audio_undecodable", lambda: one_clip(pickle.dumps(LABELS))),
    dataset("a clip cut off in its header", "audio_undecodable", lambda: one_clip(tone()[:30])),
    dataset("a FLAC of kilobytes that claims 50 minutes", "audio_undecodable", lambda: one_clip(long_flac(0.83))),
    dataset("a FLAC of kilobytes that claims a thousand hours", "audio_undecodable", lambda: one_clip(long_flac(1000))),
    dataset("64 channels at 700 kHz", "audio_undecodable", lambda: one_clip(wav(700_000, 64))),
    dataset("a rate of 1 Hz", "audio_undecodable", lambda: one_clip(wav(1, 1))),
    dataset("a rate of 2 MHz", "audio_undecodable", lambda: one_clip(wav(2_000_000, 1))),
    dataset("200 channels", "audio_undecodable", lambda: one_clip(wav(16_000, 200))),
    dataset("a PNG of bytes that claims 3.6 gigapixels", "image_undecodable", lambda: one_image(vast_png(60_000))),
    dataset("an image cut off", "image_undecodable", lambda: one_image(picture()[:60])),
)
