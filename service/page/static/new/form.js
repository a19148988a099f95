// Fields of the form, as the address carries them and as the request says them.

const DEFAULTS = {
  preset: "best", kind: "attention_sparsity", share: "50", steps: "0", goal: "share", parts: "both", model_from: "upload", dataset_from: "upload",
};
// Fields of one place alone say nothing while another place is chosen; nor do parts of a target that names its own.
const ONLY = {
  model: ["model_from", "upload"], model_step: ["model_from", "step"], model_hub: ["model_from", "hf"], model_revision: ["model_from", "hf"],
  model_bucket: ["model_from", "s3"], model_prefix: ["model_from", "s3"], dataset: ["dataset_from", "upload"], dataset_hub: ["dataset_from", "hf"],
  dataset_revision: ["dataset_from", "hf"], dataset_config: ["dataset_from", "hf"], within: ["goal", "within"], share: ["goal", "share"],
  steps: ["goal", "share"], drop: ["goal", "share"],
};
const OF_PARTS = ["parameters", "flops", "latency"];
// Attention alone is what a request means that names no parts.
const PARTS = { feed_forward: ["feed_forward"], both: ["attention", "feed_forward"] };
const COLUMNS = ["input", "input_pair", "label", "group"];
const SPLITS = ["train", "validation", "test"];

export function fieldsOf(form) {
  const data = new FormData(form);
  const fields = {};
  for (const [name, value] of data) {
    if (typeof value === "string" && name !== "exports") fields[name] = value.trim();
  }
  fields.exports = data.getAll("exports").join(",");
  fields.rest_of = fields.rest ? document.getElementById("others").dataset.of : "";
  for (const source of form.querySelectorAll(".source")) fields[`${source.dataset.kind}_upload`] = source.dataset.upload;
  for (const [name, [by, value]] of Object.entries(ONLY)) if (fields[by] !== value) fields[name] = "";
  if (!OF_PARTS.includes(fields.kind)) fields.parts = "";
  return fields;
}

export function address(fields) {
  const other = otherOf(fields.rest);
  const said = Object.entries({ ...fields, rest: fields.rest && other ? JSON.stringify(other) : fields.rest }).filter(([name, value]) => value && value !== DEFAULTS[name]);
  const query = new URLSearchParams(said).toString();
  return query ? `?${query}` : location.pathname;
}

// What the request lacks before it can be sent: [pointer, sentence], or null.
export function missing(fields) {
  const asked = [
    ["model_from", "upload", "model", "Choose a checkpoint, or upload one."],
    ["model_from", "step", "model_step", "Choose a step of a finished job."],
    ["model_from", "hf", "model_hub", "Enter the repository as owner/name."],
    ["model_from", "hf", "model_revision", "Enter the commit: branches and tags move."],
    ["model_from", "s3", "model_prefix", "Enter the folder in the bucket."],
    ["dataset_from", "upload", "dataset", "Choose a dataset, or upload one."],
    ["dataset_from", "hf", "dataset_hub", "Enter the repository as owner/name."],
    ["dataset_from", "hf", "dataset_revision", "Enter the commit: branches and tags move."],
  ];
  return asked.find(([by, from, name]) => fields[by] === from && !fields[name]) ?? null;
}

export function bodyOf(fields) {
  const number = (text) => Number(text);
  const bounded = fields.goal === "within";
  // 0.7 / 100 is 0.006999999999999999 in binary.
  const share = (text) => (/^[\d.]+$/.test(text) ? Number(`${text}e-2`) : number(text) / 100);
  const target = bounded ? { max_drop: share(fields.within || "1"), of: fields.kind } : { [fields.kind]: share(fields.share) };
  const pruning = { preset: fields.preset, target };
  if (PARTS[fields.parts]) pruning.parts = PARTS[fields.parts];
  if (!bounded && fields.steps !== "0") pruning.schedule = { steps: number(fields.steps) };
  // Heads of one layer have to be alike in a stock layout; ranks that each head chooses itself lose least.
  if (fields.layout) Object.assign(pruning, { layout: "stock", granularity: "per_head" });
  for (const name of ["only", "granularity", "criterion", "basis"]) if (fields[name]) pruning[name] = fields[name];
  const calibration = {};
  if (fields.calibration_split) calibration.split = fields.calibration_split;
  if (fields.calibration_samples) calibration.samples = number(fields.calibration_samples);
  if (fields.calibration_answers) calibration.labels = fields.calibration_answers;
  if (Object.keys(calibration).length) pruning.calibration = calibration;
  const body = { model: modelOf(fields), dataset: datasetOf(fields), pruning };
  if (fields.epochs !== "") body.finetune = number(fields.epochs) === 0 ? null : { epochs: number(fields.epochs) };
  if (!bounded && fields.drop !== "") body.stop = { max_drop: share(fields.drop) };
  if (fields.exports) body.exports = fields.exports.split(",");
  if (fields.name) body.name = fields.name;
  if (fields.labels) body.labels = labelsOf(fields.labels);
  return both(body, otherOf(fields.rest) ?? {});
}

// What the form lacks, as an object; null where the text is none.
export function otherOf(text) {
  if (!text) return {};
  try {
    const found = JSON.parse(text);
    return isObject(found) ? found : null;
  } catch {
    return null;
  }
}

// The names of the fields in it, as `pruning.min_heads`.
export function namesIn(found, above = "") {
  return Object.entries(found).flatMap(([name, value]) => (isObject(value) ? namesIn(value, `${above}${name}.`) : [above + name]));
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// What fields say, and the rest beside and within it.
function both(said, rest) {
  const found = { ...said };
  for (const [name, value] of Object.entries(rest)) {
    if (!Object.hasOwn(said, name)) found[name] = value;
    else if (isObject(said[name]) && isObject(value)) found[name] = both(said[name], value);
  }
  return found;
}

function modelOf(fields) {
  if (fields.model_from === "hf") return { type: "hf", id: fields.model_hub || "owner/name", revision: fields.model_revision || "…" };
  if (fields.model_from === "s3") return { type: "s3", bucket: fields.model_bucket, prefix: fields.model_prefix || "…" };
  if (fields.model_from === "step") {
    const [job, step] = (fields.model_step || "job_…/1").split("/");
    return { type: "step", job, step: Number(step) };
  }
  return { type: "upload", id: fields.model || "mdl_…" };
}

function datasetOf(fields) {
  const hub = fields.dataset_from === "hf";
  const found = hub ? { type: "hf", id: fields.dataset_hub || "owner/name", revision: fields.dataset_revision || "…" } : { type: "upload", id: fields.dataset || "dst_…" };
  if (hub && fields.dataset_config) found.config = fields.dataset_config;
  for (const [key, names] of [["columns", COLUMNS], ["splits", SPLITS]]) {
    const said = names.map((name) => [name, fields[`${key}_${name}`]]).filter(([, value]) => value);
    if (said.length) found[key] = Object.fromEntries(said);
  }
  return found;
}

function labelsOf(text) {
  const pairs = text.split(",").map((each) => each.trim()).filter(Boolean);
  return Object.fromEntries(pairs.map((each) => [each.split("=")[0].trim(), each.split("=").slice(1).join("=").trim()]));
}
