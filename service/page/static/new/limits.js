// How far the slider goes: what the chosen checkpoint, preset and target allow, as the server counts it.

import { call } from "../calls.js";

const LEAST = 5, MOST = 95;
const BY = ["model", "model_step", "model_bucket", "model_prefix", "model_from", "preset", "kind", "parts", "only", "layout", "granularity"];
const seen = new Map();

// Whether the slider had to move.
export async function limits(form, fields, signal) {
  const slider = form.querySelector("#share");
  const said = form.querySelector("#share-limit");
  const { least, most } = fields.goal === "share" ? await reach(fields, signal) : {};
  const before = slider.value;
  // What the address carries may lie beyond what the slider offers by itself, and between two whole percents.
  const given = Number(slider.defaultValue) || LEAST;
  slider.min = Math.min(given, Math.max(1, Math.min(LEAST, Math.floor(most ?? LEAST))));
  slider.max = Math.max(Number(slider.min), given <= (most ?? 100) ? given : 0, Math.min(MOST, Math.floor(most ?? MOST)));
  if (least > LEAST) slider.min = Math.min(given >= least ? given : MOST, Math.ceil(least), Number(slider.max));
  said.textContent = most === undefined || most === null ? "" : `This checkpoint and preset allow up to ${most}%.`;
  return slider.value !== before;
}

async function reach(fields, signal) {
  const chosen = { upload: fields.model, step: fields.model_step, s3: fields.model_bucket && fields.model_prefix }[fields.model_from];
  if (!chosen) return {};
  const query = new URLSearchParams(BY.map((name) => [name, fields[name]]).filter(([, value]) => value)).toString();
  if (!seen.has(query)) {
    const found = await call("GET", `/new/reach?${query}`, { signal }).catch((error) => {
      if (error.name === "AbortError") throw error;
      return null;
    });
    if (!found) return {};
    seen.set(query, found);
  }
  return seen.get(query);
}
