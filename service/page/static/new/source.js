// A checkpoint or data from files: dropped or chosen, declared, sent in pieces, checked. Its address carries the upload.

import { call, Refused } from "../calls.js";
import { bytes } from "./estimate.js";
import { digestOf } from "./digest.js";
import { Held, send } from "./sending.js";

const NEEDLESS = /^\.|^(Thumbs\.db|training_args\.bin)$/;
// A folder of sentence-transformers keeps the settings of a module in one of its own, such as 1_Pooling.
const MODULE = /^\d+_[A-Za-z]+$/;

export function watchSource(source, changed) {
  const drop = source.querySelector(".drop");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const { files, name } = await dropped(event.dataTransfer, source.dataset.kind === "model");
    begin(source, files, name, changed);
  });
  source.querySelector("input[type=file]").addEventListener("change", (event) => begin(source, [...event.target.files], "", changed));
  if (source.dataset.upload) say(source, "An upload stopped here. Drop the same files again, and it goes on where it was.");
}

// The files of what was dropped; of a folder those in it, and what it is called.
async function dropped(transfer, modules) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const folder = entries.find((entry) => entry.isDirectory);
  if (!folder) return { files: [...transfer.files], name: "" };
  const inside = await Promise.all(entries.map((entry) => (entry.isDirectory ? filesIn(entry, modules) : opened(entry))));
  return { files: inside.flat(), name: folder.name };
}

// Those directly in a folder and, where asked for, in its folders of modules, which are named by their paths.
export async function filesIn(folder, modules, above = "") {
  const found = [];
  for (const entry of await listed(folder)) {
    if (entry.isFile) found.push(Object.defineProperty(await opened(entry), "name", { value: above + entry.name }));
    else if (modules && !above && MODULE.test(entry.name)) found.push(...(await filesIn(entry, modules, `${entry.name}/`)));
  }
  return found;
}

function opened(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

async function listed(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}

async function begin(source, chosen, name, changed) {
  const files = chosen.filter((file) => !NEEDLESS.test(file.name)).sort((a, b) => a.name.localeCompare(b.name));
  if (!files.length || source.dataset.busy) return;
  source.dataset.busy = "yes";
  say(source, "");
  const kind = source.dataset.kind;
  const panel = source.querySelector(".upload");
  const lines = new Map(files.map((file) => [file.name, lineOf(file)]));
  panel.querySelector("ul").replaceChildren(...[...lines.values()].map((line) => line.item));
  panel.hidden = false;
  const held = new Held();
  const hold = panel.querySelector(".hold");
  hold.textContent = "Pause";
  hold.onclick = () => {
    held.set(!held.on);
    hold.textContent = held.on ? "Go on" : "Pause";
  };
  panel.querySelector(".drop-it").onclick = () => held.end();
  try {
    const declared = [];
    for (const file of files) {
      const sha256 = await digestOf(file, (done) => lines.get(file.name).tell("reading", done), held);
      declared.push({ name: file.name, size: file.size, sha256 });
    }
    const upload = await open(source, kind, declared, name);
    source.dataset.upload = upload.id;
    changed();
    const uploaded = new Map(upload.files.map((file) => [file.name, file.uploaded]));
    for (const file of files) {
      const line = lines.get(file.name);
      if (!uploaded.has(file.name)) {
        line.tell("left out", 0);
        continue;
      }
      if (!uploaded.get(file.name)) await send(kind, upload.id, file, (done, words) => line.tell(words ?? "sending", done), held);
      line.tell("sent", file.size);
    }
    say(source, "It is being checked.", false);
    const ready = await call("POST", `/v1/${kind}s/${upload.id}/complete`);
    const what = ready.layout?.architecture ?? `${Object.values(ready.contents.rows).reduce((all, rows) => all + rows, 0)} rows`;
    const option = new Option(`${ready.name ?? ready.id} · ${what} · just now`, ready.id, false, true);
    source.querySelector("select").append(option);
    source.querySelector("select").value = ready.id;
    source.dataset.upload = "";
    panel.hidden = true;
    const odd = (ready.warnings ?? []).filter((warning) => warning.code === "label_column").map((warning) => warning.detail);
    say(source, ["Ready, and chosen above.", ...odd].join(" "), false);
  } catch (error) {
    if (error.name === "AbortError") {
      if (source.dataset.upload) await call("DELETE", `/v1/${kind}s/${source.dataset.upload}`).catch(() => null);
      source.dataset.upload = "";
      panel.hidden = true;
      say(source, "Given up; nothing of it is kept.", false);
    } else {
      const items = error instanceof Refused ? error.items.map(([pointer, words]) => (pointer ? `${pointer}: ${words}` : words)) : [];
      say(source, [error.message, ...items.filter((words) => !error.message.includes(words))].join(" "));
      if (error instanceof Refused) source.dataset.upload = "";
    }
  } finally {
    delete source.dataset.busy;
    source.querySelector("input[type=file]").value = "";
    changed();
  }
}

// The upload that the address names, where it is of the same files; otherwise a new one.
async function open(source, kind, files, name) {
  if (source.dataset.upload) {
    const before = await call("GET", `/v1/${kind}s/${source.dataset.upload}`).catch(() => null);
    if (before?.state === "open" && isOf(before, files)) return before;
  }
  return call("POST", `/v1/${kind}s`, { body: { files, ...(name ? { name } : {}) } });
}

// Whether an upload is of these files: of some the service has said that they are not needed.
function isOf(upload, files) {
  const leftOut = upload.warnings?.some((warning) => warning.code === "files_left_out");
  if (!leftOut && files.length !== upload.files.length) return false;
  return upload.files.every((each) => files.some((file) => file.name === each.name && file.sha256 === each.sha256));
}

function lineOf(file) {
  const item = document.createElement("li");
  const [name, words, bar] = ["span", "span", "progress"].map((tag) => document.createElement(tag));
  name.textContent = file.name;
  bar.max = Math.max(file.size, 1);
  bar.value = 0;
  bar.setAttribute("aria-label", `Progress of ${file.name}`);
  item.append(name, words, bar);
  const tell = (what, done) => {
    const size = bytes(file.size);
    words.textContent = { sent: `sent, ${size}`, "left out": "not needed, left out" }[what] ?? `${what}, ${bytes(done)} of ${size}`;
    bar.value = what === "sent" ? bar.max : done;
  };
  return { item, tell };
}

function say(source, words, wrong = true) {
  const place = source.querySelector(".error");
  place.textContent = words;
  place.hidden = !words;
  place.classList.toggle("soft", !wrong);
}
