// What is wrong, at the field that it is about and in the words that stand there.

import { otherOf } from "./form.js";

const NAMES = {
  model: "Checkpoint", dataset: "Data", job: "Job", step: "Step", id: "Repository", revision: "Commit", bucket: "Bucket", prefix: "Folder",
  kind: "Target", target: "Target", max_drop: "Accuracy drop", schedule: "Steps", steps: "Steps", finetune: "Recovery", epochs: "Epochs",
  stop: "Maximum accuracy drop", exports: "Export formats", columns: "Column", splits: "Split", input: "input", input_pair: "second input",
};

// `/dataset/columns/label` as "Data, column, label"; empty of the whole request.
export function fieldName(pointer) {
  const words = pointer.split("/").slice(1).map((part, at) => {
    const known = NAMES[part] ?? (/^\d+$/.test(part) ? `No. ${Number(part) + 1}` : "");
    // What a person wrote, such as a label, stays as it is.
    return at && known ? known[0].toLowerCase() + known.slice(1) : known || part.replaceAll("_", " ");
  });
  const all = words.join(", ");
  return all && all[0].toUpperCase() + all.slice(1);
}

// The sentence of a refusal without the pointer that it may begin with, which stands at the field instead.
export function plainMessage(error) {
  const pointer = (error.items ?? []).map(([each]) => each).find((each) => each && error.message.startsWith(`${each}: `));
  const words = pointer ? error.message.slice(pointer.length + 2) : error.message;
  return sentence(words.replace(/ \(\d+ more in `errors`\)/, ""));
}

// What fields do not allow, as [pointer, sentence].
export function wrongFields(form, fields) {
  const rest = otherOf(fields.rest) ? [] : [["/rest", 'enter a JSON object, such as {"seed": 7}']];
  return [...wrongNumbers(form), ...rest];
}

// The service's own words are about shares, not points.
function wrongNumbers(form) {
  const fields = [...form.querySelectorAll("input[type=number]")].filter((field) => !field.closest("[hidden]") && !field.validity.valid);
  return fields.map((field) => {
    const place = field.closest(".field").querySelector(".error") ?? field.closest("details, fieldset").querySelector(".error");
    const whole = field.step === "any" || field.step.includes(".") ? "a number" : "a whole number";
    const range = field.max ? `from ${field.min} to ${field.max}` : `of ${field.min} or more`;
    return [place.dataset.pointer.split(" ").at(-1), `enter ${whole} ${range}`];
  });
}

export function showErrors(form, items, message = "") {
  const places = [...form.querySelectorAll(".error[data-pointer]")];
  for (const place of places) {
    place.hidden = true;
    place.textContent = "";
    mark(place, false);
  }
  const shown = places.filter((place) => !place.closest("[data-goal][hidden], [data-from][hidden], [data-kinds][hidden]"));
  const all = items.length ? items : message ? [["", message]] : [];
  const only = items.length === 1;
  // Of several items each is a fact by itself, and the general sentence says what they mean together.
  const general = items.length > 1 && !items.some(([, words]) => message.includes(words.slice(1))) ? message : "";
  all.forEach(([pointer, words], number) => {
    const fits = shown.filter((place) => pointersOf(place).some((own) => pointer === own || pointer.startsWith(`${own}/`)));
    const place = fits.sort((a, b) => longest(b, pointer) - longest(a, pointer))[0] ?? shown.find((each) => each.dataset.pointer === "");
    place.hidden = false;
    const exact = !pointer || pointersOf(place).includes(pointer);
    // A general sentence may say more than the item does.
    const said = only && message ? message : sentence(words);
    place.textContent = [place.textContent, number ? "" : general, `${exact ? "" : `${fieldName(pointer)}: `}${said}`].filter(Boolean).join(" ");
    place.closest("details")?.setAttribute("open", "");
    mark(place, true);
  });
}

const pointersOf = (place) => place.dataset.pointer.split(" ");
const longest = (place, pointer) => Math.max(...pointersOf(place).filter((own) => pointer === own || pointer.startsWith(`${own}/`)).map((own) => own.length));
const sentence = (words) => (words ? `${words[0].toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? "" : "."}` : "");

function mark(place, wrong) {
  const field = place.closest(".field, .source")?.querySelector("input:not([type=file], [type=radio]), select, textarea");
  if (!field) return;
  place.id ||= `wrong${place.dataset.pointer.replaceAll(/[ /]/g, "-")}`;
  if (wrong) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
  if (wrong) field.setAttribute("aria-describedby", place.id);
  else field.removeAttribute("aria-describedby");
}
