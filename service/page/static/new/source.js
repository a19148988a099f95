// A checkpoint or data from files: dropped or chosen, declared, sent in pieces, checked. The address of the page carries the upload.

import { call, Refused } from "../calls.js";
import { fieldName, plainMessage } from "./errors.js";
import { bytes } from "./estimate.js";
import { digestOf } from "./digest.js";
import { chosen, dropped, filesOfData, filesOfModel } from "./folders.js";
import { Held, send } from "./sending.js";

const CHECK_WAIT = 2000;

export function watchSource(source, changed) {
  const drop = source.querySelector(".drop");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    // Before anything is waited for: what was dropped can be read no longer than this event.
    const found = dropped(event.dataTransfer);
    begin(source, () => found, changed);
  });
  for (const input of source.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => begin(source, async () => chosen(input.files), changed));
  }
  if (source.dataset.upload) say(source, "This upload was interrupted. Drop the same files again to resume it.");
}

async function begin(source, read, changed) {
  if (source.dataset.busy) return;
  source.dataset.busy = "yes";
  say(source, "Reading …", false);
  let files, name;
  try {
    const found = await read();
    files = await (source.dataset.kind === "model" ? filesOfModel : filesOfData)(found.files);
    name = source.querySelector(".upload-name").value.trim() || nameOf(found, source.dataset.kind);
  } catch (error) {
    say(source, error.message || "This browser could not read what was dropped.");
    release(source);
    return;
  }
  files.sort((a, b) => a.name.localeCompare(b.name));
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
    hold.textContent = held.on ? "Resume" : "Pause";
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
    say(source, "Checking the files …", false);
    const ready = await checked(kind, upload.id, held);
    const what = ready.layout?.architecture ?? `${Object.values(ready.contents.rows).reduce((all, rows) => all + rows, 0)} rows`;
    const select = source.querySelector(`#${kind}`);
    select.append(new Option(`${ready.name ?? ready.id} · ${what} · just now`, ready.id, false, true));
    select.value = ready.id;
    source.dataset.upload = "";
    panel.hidden = true;
    const odd = (ready.warnings ?? []).filter((warning) => warning.code === "label_column").map((warning) => warning.detail);
    say(source, ["Ready and selected above.", ...odd].join(" "), false);
  } catch (error) {
    if (error.name === "AbortError") {
      if (source.dataset.upload) await discard(kind, source.dataset.upload).catch(() => null);
      source.dataset.upload = "";
      panel.hidden = true;
      say(source, "Upload cancelled; nothing was kept.", false);
    } else {
      say(source, inWords(error, files));
      if (error instanceof Refused) source.dataset.upload = "";
    }
  } finally {
    release(source);
    changed();
  }
}

function release(source) {
  delete source.dataset.busy;
  for (const input of source.querySelectorAll("input[type=file]")) input.value = "";
}

// What an upload without a name of its own is called: its folder, or its one file.
function nameOf(found, kind) {
  const name = found.name || (kind === "dataset" && found.files.length === 1 ? found.files[0].path.replace(/\.[a-z]+$/, "") : "");
  return name.replace(/[\u0000-\u001f\u007f]/g, "").slice(0, 128);
}

// A refusal with the files that it is about, by their names.
function inWords(error, files) {
  if (!(error instanceof Refused)) return error.message;
  const said = error.items.map(([pointer, words]) => {
    const file = files[/^\/files\/(\d+)/.exec(pointer)?.[1]]?.name;
    return [file ?? fieldName(pointer), words].filter(Boolean).join(": ");
  });
  const general = plainMessage(error);
  return [general, ...said.filter((words) => !general.includes(words.split(": ").at(-1)))].join(" ");
}

// The upload once it has been checked: of large data that goes on after the answer. Raises what is wrong with it.
async function checked(kind, id, held) {
  let found = await call("POST", `/v1/${kind}s/${id}/complete`);
  while (found.state === "checking") {
    await new Promise((resolve) => setTimeout(resolve, CHECK_WAIT));
    await held.pass();
    found = await call("GET", `/v1/${kind}s/${id}`);
  }
  if (found.error) throw new Refused(found.error, 422);
  return found;
}

// Nothing but what is not whole yet: the address may name something else than what was being sent.
async function discard(kind, id) {
  const { state } = await call("GET", `/v1/${kind}s/${id}`);
  if (state === "open" || state === "checking") await call("DELETE", `/v1/${kind}s/${id}`);
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
    words.textContent = { sent: `sent, ${size}`, "left out": "skipped, not needed" }[what] ?? `${what}, ${bytes(done)} of ${size}`;
    bar.value = what === "sent" ? bar.max : done;
  };
  return { item, tell };
}

function say(source, words, wrong = true) {
  const place = source.querySelector(".upload-said");
  place.textContent = words;
  place.hidden = !words;
  place.classList.toggle("error", wrong);
  place.classList.toggle("soft", !wrong);
}
