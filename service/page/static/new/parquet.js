// Parquet files of recordings or images, made of the files as they are: nothing is read into memory but sizes and names.
// Format: https://parquet.apache.org/docs/file-format/ — uncompressed, PLAIN, every field required, so that a page is its values.

const MAGIC = new Uint8Array([0x50, 0x41, 0x52, 0x31]);
const INT64 = 2, BYTE_ARRAY = 6;
const GROUP_ROWS = 256;
const GROUP_BYTES = 2 ** 26;
const [I32, I64, BINARY, LIST, STRUCT] = [5, 6, 8, 9, 12];
const utf8 = new TextEncoder();

// One shard. `column`: "audio" or "image"; `rows`: { file, label } with the number of the label, and { speaker } of recordings.
export function parquetOf(column, rows, features, name) {
  const speaker = column === "audio";
  const schema = [
    element(null, "schema", speaker ? 3 : 2),
    element(null, column, 2),
    element(BYTE_ARRAY, "bytes"),
    element(BYTE_ARRAY, "path", 0, true),
    element(INT64, "label"),
    ...(speaker ? [element(BYTE_ARRAY, "speaker", 0, true)] : []),
  ];
  const parts = [MAGIC];
  let offset = MAGIC.length;
  const groups = [];
  for (const group of groupsOf(rows)) {
    const chunks = [];
    const columns = [
      [[column, "bytes"], BYTE_ARRAY, group.flatMap(({ file }) => [length(file.size), file])],
      [[column, "path"], BYTE_ARRAY, group.flatMap(({ file }) => text(file.name))],
      [["label"], INT64, group.map(({ label }) => new Uint8Array(new BigInt64Array([BigInt(label)]).buffer))],
      ...(speaker ? [[["speaker"], BYTE_ARRAY, group.flatMap((row) => text(row.speaker))]] : []),
    ];
    for (const [path, type, values] of columns) {
      const size = values.reduce((all, value) => all + (value.size ?? value.length), 0);
      const header = struct([[1, I32, 0], [2, I32, size], [3, I32, size], [5, STRUCT, struct([[1, I32, group.length], [2, I32, 0], [3, I32, 3], [4, I32, 3]])]]);
      const whole = header.length + size;
      parts.push(header, ...values);
      const meta = struct([
        [1, I32, type], [2, LIST, list(I32, [0])], [3, LIST, list(BINARY, path)], [4, I32, 0], [5, I64, group.length],
        [6, I64, whole], [7, I64, whole], [9, I64, offset],
      ]);
      chunks.push({ whole, chunk: struct([[2, I64, offset], [3, STRUCT, meta]]) });
      offset += whole;
    }
    const all = chunks.reduce((sum, { whole }) => sum + whole, 0);
    groups.push(struct([[1, LIST, list(STRUCT, chunks.map(({ chunk }) => chunk))], [2, I64, all], [3, I64, group.length]]));
  }
  const said = struct([[1, BINARY, "huggingface"], [2, BINARY, JSON.stringify({ info: { features } })]]);
  const footer = struct([[1, I32, 2], [2, LIST, list(STRUCT, schema)], [3, I64, rows.length], [4, LIST, list(STRUCT, groups)], [5, LIST, list(STRUCT, [said])], [6, BINARY, "Secateur's page"]]);
  return new File([...parts, footer, length(footer.length), MAGIC], name);
}

// At most so many rows and so many bytes, or one row.
function* groupsOf(rows) {
  let group = [], size = 0;
  for (const row of rows) {
    if (group.length && (group.length === GROUP_ROWS || size + row.file.size > GROUP_BYTES)) {
      yield group;
      [group, size] = [[], 0];
    }
    group.push(row);
    size += row.file.size;
  }
  if (group.length) yield group;
}

function element(type, name, children = 0, isText = false) {
  const fields = [[1, I32, type], [3, I32, name === "schema" && children ? null : 0], [4, BINARY, name], [5, I32, children || null], [6, I32, isText ? 0 : null]];
  return struct(fields.filter(([, , value]) => value !== null));
}

const length = (number) => new Uint8Array(new Uint32Array([number]).buffer);

function text(words) {
  const bytes = utf8.encode(words);
  return [length(bytes.length), bytes];
}

// Thrift's compact protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
function struct(fields) {
  const found = [];
  let before = 0;
  for (const [id, type, value] of fields) {
    found.push([((id - before) << 4) | type], written(type, value));
    before = id;
  }
  return joined([...found, [0]]);
}

function list(type, values) {
  const head = values.length < 15 ? [(values.length << 4) | type] : joined([[0xf0 | type], varint(values.length)]);
  return joined([head, ...values.map((value) => written(type, value))]);
}

function written(type, value) {
  if (type === I32 || type === I64) return varint(2 * value);
  if (type !== BINARY) return value;
  const bytes = utf8.encode(value);
  return joined([varint(bytes.length), bytes]);
}

// Of numbers that are not negative and below 2^52.
function varint(number) {
  const found = [];
  let rest = number;
  while (rest > 127) {
    found.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return [...found, rest];
}

function joined(pieces) {
  const found = new Uint8Array(pieces.reduce((all, piece) => all + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    found.set(piece, at);
    at += piece.length;
  }
  return found;
}
