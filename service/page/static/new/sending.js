// A file in pieces by tus 1.0 (https://tus.io): what has come stays, whatever happens to the connection.

import { call, csrfHeaders, parsed, Refused } from "../calls.js";

const PIECE = 16 * 2 ** 20;
const PATIENCE = 8;
const TUS = { "Tus-Resumable": "1.0.0" };

// Lets a person stop for a while, and for good.
export class Held {
  constructor() {
    this.on = false;
    this.ended = false;
    this.changed = new EventTarget();
  }
  set(on) {
    this.on = on;
    this.changed.dispatchEvent(new Event("change"));
  }
  end() {
    this.ended = true;
    this.set(false);
  }
  // Waits while it is on. Raises AbortError where it was ended.
  async pass() {
    while (this.on) await new Promise((resolve) => this.changed.addEventListener("change", resolve, { once: true }));
    if (this.ended) throw new DOMException("Cancelled.", "AbortError");
  }
}

export async function send(kind, upload, file, tell, held) {
  const place = await begun(kind, upload, file);
  let tries = 0;
  let offset = place.offset;
  while (offset < file.size || file.size === 0) {
    await held.pass();
    tell(offset);
    try {
      offset = await piece(place.path, file, offset, tell, held);
      tries = 0;
    } catch (error) {
      await held.pass();
      if (error instanceof Refused && error.status < 500 && ![408, 409, 429].includes(error.status)) throw error;
      if (tries++ >= PATIENCE) throw new Error("The connection failed too often. Drop the same files to resume where it stopped.");
      tell(offset, "waiting for the connection");
      await new Promise((resolve) => setTimeout(resolve, Math.min(1000 * 2 ** (tries - 1), 15000)));
      offset = (await offsetAt(place.path).catch(() => null)) ?? offset;
    }
    if (file.size === 0) break;
  }
}

// Where the file goes and how much of it is there; the server knows what came before.
async function begun(kind, upload, file) {
  const before = await call("GET", `/v1/${kind}s/${upload}/uploads?limit=100`);
  const same = before.items.filter((each) => each.name === file.name).sort((a, b) => b.offset - a.offset)[0];
  if (same) return { path: `/v1/uploads/${same.id}`, offset: same.offset };
  const name = btoa(String.fromCharCode(...new TextEncoder().encode(file.name)));
  const headers = { ...TUS, "Upload-Length": String(file.size), "Upload-Metadata": `filename ${name}` };
  const made = await call("POST", `/v1/${kind}s/${upload}/uploads`, { headers });
  return { path: `/v1/uploads/${made.id}`, offset: made.offset };
}

async function offsetAt(path) {
  const answer = await fetch(path, { method: "HEAD", headers: TUS });
  return answer.ok ? Number(answer.headers.get("Upload-Offset")) : null;
}

// XMLHttpRequest and not fetch, which does not say how much of a body has gone.
function piece(path, file, offset, tell, held) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => (held.on || held.ended) && request.abort();
    request.open("PATCH", path);
    const headers = { ...TUS, ...csrfHeaders(), "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => tell(offset + event.loaded);
    request.onload = () => {
      if (request.status === 204) resolve(Number(request.getResponseHeader("Upload-Offset")));
      else reject(new Refused(parsed(request.responseText), request.status));
    };
    request.onerror = () => reject(new Error("The connection failed."));
    request.onabort = request.onerror;
    request.onloadend = () => held.changed.removeEventListener("change", stop);
    held.changed.addEventListener("change", stop);
    request.send(file.slice(offset, offset + PIECE));
  });
}
