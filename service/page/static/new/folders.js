// Files that were dropped or chosen, with their paths, and what a checkpoint or data are made of among them
// (checkpoints/data/layout.py is the same for the command line).

import { parquetOf } from "./parquet.js";

const NEEDLESS = /^\.|^(Thumbs\.db|training_args\.bin)$/;
// A folder of sentence-transformers keeps the settings of a module in one of its own, such as 1_Pooling.
const MODULE = /^\d+_[A-Za-z]+$/;
const CLIP = /\.(wav|flac|ogg|opus|mp3)$/i;
const IMAGE = /\.(png|jpe?g|webp|gif|bmp)$/i;
const SPLIT_NAMES = ["train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"];
const SHARD_ROWS = 2048;
const SHARD_BYTES = 2 ** 29;
const SAFE = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$/;
const PACK = "Use the command line: secateur submit --data FOLDER.";

// { name, files } of what was dropped; of one folder its name and { path, file } of everything below it.
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const folders = entries.filter((entry) => entry.isDirectory);
  if (!folders.length) return { name: "", files: [...transfer.files].map((file) => ({ path: file.name, file })) };
  const alone = entries.length === 1 && folders.length === 1;
  const found = await Promise.all(entries.map((entry) => below(entry, alone ? null : "")));
  return { name: folders[0].name, files: found.flat() };
}

// The same of what a window of the system gave: a folder's files say their paths with its name in front.
export function chosen(files) {
  const [first] = files;
  const folder = first?.webkitRelativePath?.includes("/") ? first.webkitRelativePath.split("/")[0] : "";
  const path = (file) => (folder ? file.webkitRelativePath.slice(folder.length + 1) : file.name);
  return { name: folder, files: [...files].map((file) => ({ path: path(file), file })) };
}

async function below(entry, above) {
  const path = above === null ? "" : above + entry.name;
  if (entry.isFile) return [{ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((each) => below(each, path ? `${path}/` : "")))).flat();
}

// Files to send for a model: those in the folder itself and in its folders of modules, named by their paths.
export function filesOfModel(files) {
  const wanted = files.filter(({ path }) => {
    const parts = path.split("/");
    return !NEEDLESS.test(parts.at(-1)) && (parts.length === 1 || (parts.length === 2 && MODULE.test(parts[0])));
  });
  if (!wanted.some(({ path }) => path === "config.json")) {
    throw new Error("There is no config.json among these files. Choose the folder that save_pretrained wrote.");
  }
  return wanted.map(({ path, file }) => named(file, path));
}

// Files to send for data: parquet shards as they are, recordings and images packed into such.
export async function filesOfData(given) {
  const kept = (part, at, all) => !part.startsWith(".") && (at === all.length - 1 || !part.startsWith("_"));
  // In one order however a folder is listed: the same files give the same bytes, so that an upload that broke off is found again.
  const files = given.filter(({ path }) => path.split("/").every(kept)).sort((a, b) => byCodePoints(a.path, b.path));
  const shards = files.filter(({ path }) => path.endsWith(".parquet") && !path.endsWith("metadata.parquet"));
  if (shards.length) return shardsOf(shards);
  for (const [column, kind] of [["audio", CLIP], ["image", IMAGE]]) {
    const media = files.filter(({ path }) => kind.test(path));
    if (media.length) return packed(column, media, files);
  }
  if (files.some(({ path }) => /\.(csv|jsonl?)(\.gz)?$|\.arrow$/i.test(path))) throw new Error(`The page does not support CSV, JSON or Arrow files. ${PACK}`);
  throw new Error("There are no parquet files, recordings (wav, flac, ogg, opus, mp3) or images (png, jpg, webp, gif, bmp) here.");
}

function shardsOf(shards) {
  const names = new Set();
  return shards.map(({ path, file }, number) => {
    const parts = path.split("/");
    const folder = parts.at(-2)?.toLowerCase();
    const own = parts.at(-1);
    let name = SPLIT_NAMES.includes(folder) && !own.toLowerCase().startsWith(folder) ? `${folder}-${own}` : own;
    if (names.has(name)) name = `${name.split("-")[0].replace(".parquet", "")}-${String(number).padStart(5, "0")}.parquet`;
    names.add(name);
    return named(file, name);
  });
}

async function packed(column, media, files) {
  if (files.some(({ path }) => /(^|\/)metadata\.(csv|jsonl|parquet)$/.test(path)) || files.some(({ path }) => /^(validation|testing)_list\.txt$/.test(path))) {
    throw new Error(`The page does not read labels from metadata or list files. ${PACK}`);
  }
  const parts = media.map(({ path }) => path.split("/"));
  const bySplit = parts.some(([first, ...rest]) => rest.length === 2 && ["train", "training"].includes(first.toLowerCase()));
  const depth = bySplit ? 3 : 2;
  const wrong = parts.find((each) => each.length !== depth);
  if (wrong) {
    const shape = bySplit ? "split/label/file" : "label/file or train/label/file";
    throw new Error(`${wrong.join("/")} is not at ${shape}: the folder of a file is its label. Choose the parent folder.`);
  }
  const labels = [...new Set(parts.map((each) => each.at(-2)))].sort(byCodePoints);
  const number = new Map(labels.map((label, at) => [label, at]));
  const splits = new Map();
  media.forEach(({ file }, at) => {
    const split = bySplit ? parts[at][0] : "train";
    if (!SAFE.test(split)) throw new Error(`${split} is not a valid split name: use letters, digits, ".", "_" and "-".`);
    if (!splits.has(split)) splits.set(split, []);
    // Of recordings, the speaker is what precedes the first underscore of the name.
    splits.get(split).push({ file, label: number.get(parts[at].at(-2)), speaker: file.name.split("_")[0] });
  });
  const own = column === "audio" ? { sampling_rate: await rateOf(media[0].file), decode: false, _type: "Audio" } : { decode: false, _type: "Image" };
  const features = { [column]: own, label: { names: labels, _type: "ClassLabel" } };
  if (column === "audio") features.speaker = { dtype: "string", _type: "Value" };
  return [...splits].flatMap(([split, rows]) => {
    const shards = shardsIn(rows.sort((a, b) => byCodePoints(a.file.name, b.file.name)));
    const name = (at) => `${split}-${String(at).padStart(5, "0")}-of-${String(shards.length).padStart(5, "0")}.parquet`;
    return shards.map((shard, at) => parquetOf(column, shard, features, name(at)));
  });
}

function shardsIn(rows) {
  const shards = [[]];
  let size = 0;
  for (const row of rows) {
    if (shards.at(-1).length && (shards.at(-1).length === SHARD_ROWS || size + row.file.size > SHARD_BYTES)) {
      shards.push([]);
      size = 0;
    }
    shards.at(-1).push(row);
    size += row.file.size;
  }
  return shards;
}

// Of a wav file, from its header; of others the service finds it.
async function rateOf(file) {
  const head = new DataView(await file.slice(0, 28).arrayBuffer());
  const isWav = head.byteLength === 28 && head.getUint32(0) === 0x52494646 && head.getUint32(12) === 0x666d7420;
  return isWav ? head.getUint32(24, true) : null;
}

function byCodePoints(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function named(file, name) {
  return name === file.name ? file : new File([file], name);
}
