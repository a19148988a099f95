// The form of a new job: what it says goes into the address, is estimated, shown as a program, and in the end submitted.

import { call, notice, Refused } from "../calls.js";
import { address, bodyOf, fieldsOf, showErrors } from "./form.js";
import { estimate } from "./estimate.js";
import { asCurl, asPython } from "./snippets.js";
import { watchSource } from "./source.js";

const form = document.getElementById("job");
const WAIT = 300;
let timer, running;

function changed() {
  const fields = fieldsOf(form);
  for (const field of form.querySelectorAll("[data-goal]")) field.hidden = field.dataset.goal !== fields.goal;
  history.replaceState(null, "", address(fields));
  document.getElementById("share-shown").textContent = `${fields.share}%`;
  document.getElementById("steps-shown").textContent = fields.steps === "0" ? "as the preset says" : fields.steps;
  const body = bodyOf(fields);
  document.getElementById("curl").textContent = asCurl(body);
  document.getElementById("python").textContent = asPython(body);
  clearTimeout(timer);
  timer = setTimeout(() => ask(fields, body), WAIT);
}

async function ask(fields, body) {
  running?.abort();
  if (!fields.model || !fields.dataset) return;
  running = new AbortController();
  const told = document.querySelector("#estimate .told");
  try {
    told.replaceChildren(...estimate(await call("POST", "/v1/jobs:estimate", { body, signal: running.signal })));
    showErrors(form, []);
  } catch (error) {
    if (error.name === "AbortError") return;
    showErrors(form, error instanceof Refused ? error.items : [], error.message);
    told.textContent = "There is no estimate of a job that would be refused.";
  }
}

form.addEventListener("input", changed);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = document.getElementById("submit");
  const fields = fieldsOf(form);
  if (!fields.model || !fields.dataset) {
    const missing = fields.model ? "dataset" : "model";
    showErrors(form, [[`/${missing}`, `Choose ${missing === "model" ? "a checkpoint" : "data"} first, or upload it.`]]);
    document.getElementById(missing).focus();
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
      showErrors(form, error.items, error.message);
      form.querySelector('[aria-invalid="true"]')?.focus();
    } else {
      notice("The server does not answer. Press once more: nothing is done twice.", true);
    }
  }
});
form.addEventListener("input", () => delete form.dataset.attempt);

for (const source of form.querySelectorAll(".source")) watchSource(source, changed);
changed();
