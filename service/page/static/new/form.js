// Fields of the form, as the address carries them and as the request says them.

const DEFAULTS = { preset: "best", kind: "attention_sparsity", share: "50", steps: "0", goal: "share" };

export function fieldsOf(form) {
  const data = new FormData(form);
  const plain = Object.fromEntries(
    ["model", "dataset", "preset", "kind", "share", "goal", "within", "steps", "layout", "epochs", "drop", "name", "labels"].map((name) => [
      name,
      (data.get(name) ?? "").trim(),
    ]),
  );
  const uploads = [...form.querySelectorAll(".source")].map((source) => [`${source.dataset.kind}_upload`, source.dataset.upload]);
  return { ...plain, exports: data.getAll("exports").join(","), ...Object.fromEntries(uploads) };
}

export function address(fields) {
  const said = Object.entries(fields).filter(([name, value]) => value && value !== DEFAULTS[name]);
  const query = new URLSearchParams(said).toString();
  return query ? `?${query}` : location.pathname;
}

export function bodyOf(fields) {
  const number = (text) => Number(text);
  const bounded = fields.goal === "within";
  // 0.7 / 100 is 0.006999999999999999 in binary.
  const share = (text) => Number((number(text) / 100).toPrecision(12));
  const target = bounded ? { max_drop: share(fields.within || "1"), of: fields.kind } : { [fields.kind]: number(fields.share) / 100 };
  const pruning = { preset: fields.preset, target };
  if (!bounded && fields.steps !== "0") pruning.schedule = { steps: number(fields.steps) };
  // Heads of one layer have to be alike in a stock layout; ranks that each head chooses itself lose least.
  if (fields.layout) Object.assign(pruning, { layout: "stock", granularity: "per_head" });
  const body = {
    model: { type: "upload", id: fields.model || "mdl_…" },
    dataset: { type: "upload", id: fields.dataset || "dst_…" },
    pruning,
  };
  if (fields.epochs !== "") body.finetune = number(fields.epochs) === 0 ? null : { epochs: number(fields.epochs) };
  if (!bounded && fields.drop !== "") body.stop = { max_drop: number(fields.drop) / 100 };
  if (fields.exports) body.exports = fields.exports.split(",");
  if (fields.name) body.name = fields.name;
  if (fields.labels) body.labels = labelsOf(fields.labels);
  return body;
}

function labelsOf(text) {
  const pairs = text.split(",").map((each) => each.trim()).filter(Boolean);
  return Object.fromEntries(pairs.map((each) => [each.split("=")[0].trim(), each.split("=").slice(1).join("=").trim()]));
}

// Each error at the field that its pointer leads to, the nearest place above it where there is none of its own.
export function showErrors(form, items, message = "") {
  const places = [...form.querySelectorAll(".error[data-pointer]")];
  for (const place of places) {
    place.hidden = true;
    place.textContent = "";
    mark(place, false);
  }
  const shown = places.filter((place) => !place.closest("[data-goal][hidden]"));
  const all = items.length ? items : message ? [["", message]] : [];
  for (const [pointer, words] of all) {
    const fits = shown.filter((place) => pointer === place.dataset.pointer || pointer.startsWith(`${place.dataset.pointer}/`));
    const place = fits.sort((a, b) => b.dataset.pointer.length - a.dataset.pointer.length)[0] ?? shown[0];
    place.hidden = false;
    const exact = pointer === place.dataset.pointer || !pointer;
    // A general sentence may say more than the item does.
    place.textContent = `${place.textContent} ${exact ? "" : `${pointer}: `}${items.length === 1 && message ? message : words}`.trim();
    mark(place, true);
  }
}

function mark(place, wrong) {
  const field = place.closest(".field, .source")?.querySelector("input:not([type=file]), select");
  if (!field) return;
  place.id ||= `wrong${place.dataset.pointer.replaceAll("/", "-")}`;
  if (wrong) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
  if (wrong) field.setAttribute("aria-describedby", place.id);
  else field.removeAttribute("aria-describedby");
}
