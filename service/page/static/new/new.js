// The form of a new job: what it says goes into the address, is estimated, shown as a program, and in the end submitted.

import { call, notice, Refused } from "../calls.js";
import { plainMessage, showErrors, wrongFields } from "./errors.js";
import { address, bodyOf, fieldsOf, missing, namesIn, otherOf } from "./form.js";
import { estimate } from "./estimate.js";
import { limits } from "./limits.js";
import { asCurl, asPython } from "./snippets.js";
import { watchSource } from "./source.js";

const form = document.getElementById("job");
const WAIT = 300;
let timer, running;

function changed() {
  const fields = fieldsOf(form);
  for (const part of form.querySelectorAll("[data-goal]")) part.hidden = part.dataset.goal !== fields.goal;
  for (const part of form.querySelectorAll("[data-kinds]")) part.hidden = !part.dataset.kinds.split(" ").includes(fields.kind);
  for (const part of form.querySelectorAll("[data-from]")) {
    const [by, value] = part.dataset.from.split(" ");
    part.hidden = fields[by] !== value;
  }
  const other = namesIn(otherOf(fields.rest) ?? {});
  document.getElementById("rest-names").textContent = other.length ? `: ${other.join(", ")}` : "";
  document.getElementById("rest-remove").hidden = !fields.rest;
  history.replaceState(null, "", address(fields));
  document.getElementById("share-shown").textContent = `${document.getElementById("share").value}%`;
  document.getElementById("steps-shown").textContent = fields.steps === "0" ? "set by the preset" : fields.steps || "1";
  const body = bodyOf(fields);
  document.getElementById("curl").textContent = asCurl(body);
  document.getElementById("python").textContent = asPython(body);
  clearTimeout(timer);
  timer = setTimeout(() => ask(fields, body), WAIT);
}

async function ask(fields, body) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const told = document.querySelector("#estimate .told");
  const lacking = missing(fields);
  try {
    // A slider that could not stay where it was has changed the form, and so asks again.
    if (await limits(form, fields, signal)) return changed();
    const wrong = wrongFields(form, fields);
    if (wrong.length) return refused(wrong);
    if (lacking) return;
    // A worker fetches from the hub: until then nothing is known of a model, and the rest of the request is checked alone.
    const found = fields.model_from === "hf"
      ? await call("POST", "/v1/jobs?validate_only=true", { body, signal })
      : await call("POST", "/v1/jobs:estimate", { body, signal });
    const known = fields.model_from === "hf" ? found.estimate : found;
    told.replaceChildren(...(known ? estimate(known) : ["There is no estimate for a model on the hub: a worker fetches it when the job starts."]));
    showErrors(form, []);
  } catch (error) {
    if (error.name === "AbortError") return;
    refused(error instanceof Refused ? error.items : [], plainMessage(error));
  }
}

function refused(items, message) {
  showErrors(form, items, message);
  document.querySelector("#estimate .told").textContent = "No estimate: this job would be refused. See the errors in the form.";
}

// The address may carry a share between two whole percents, which stays until the slider is moved.
document.getElementById("share").addEventListener("input", ({ target }) => (target.step = 1));
document.getElementById("rest-remove").addEventListener("click", () => {
  document.getElementById("rest").value = "";
  document.getElementById("rest").focus();
  delete form.dataset.attempt;
  changed();
});
form.addEventListener("input", changed);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = document.getElementById("submit");
  const fields = fieldsOf(form);
  const lacking = missing(fields);
  const wrong = wrongFields(form, fields);
  if (lacking || wrong.length) {
    const [, , name, words] = lacking ?? [];
    showErrors(form, lacking ? [[name.startsWith("model") ? "/model" : "/dataset", words]] : wrong);
    (name ? document.getElementById(name) : form.querySelector('[aria-invalid="true"]'))?.focus();
    return;
  }
  button.disabled = true;
  try {
    // A second press, or an answer that was lost, must not make a second job.
    form.dataset.attempt ||= `${Date.now()}-${Math.random().toString(36).slice(2)}`;
    const job = await call("POST", "/v1/jobs", { body: bodyOf(fields), headers: { "Idempotency-Key": form.dataset.attempt } });
    location.assign(`/jobs/${job.id}`);
  } catch (error) {
    button.disabled = false;
    if (error instanceof Refused) {
      delete form.dataset.attempt;
      showErrors(form, error.items, plainMessage(error));
      form.querySelector('[aria-invalid="true"]')?.focus();
    } else {
      notice("The server does not answer. Submit again: this creates no second job.", true);
    }
  }
});
form.addEventListener("input", () => delete form.dataset.attempt);

for (const source of form.querySelectorAll(".source")) watchSource(source, changed);
changed();
