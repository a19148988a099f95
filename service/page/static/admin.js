// Keys and webhooks: forms become calls of the API, and a token or a secret in an answer is shown until the page is left.

import { call, notice, Refused } from "./calls.js";

const told = () => document.body.dispatchEvent(new Event("told"));
const box = document.getElementById("secret");

function show(secret) {
  document.getElementById("secret-text").textContent = secret;
  box.hidden = false;
  box.focus();
}

function forget() {
  if (!box) return;
  document.getElementById("secret-text").textContent = "";
  box.hidden = true;
}

document.getElementById("secret-done")?.addEventListener("click", () => {
  forget();
  document.getElementById("main").focus();
});
// A browser may keep the page as it is and show it again on Back.
addEventListener("pagehide", forget);

document.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (detail.successful && detail.elt.hasAttribute("data-secret")) show(JSON.parse(detail.xhr.responseText).secret);
});

const words = (error) => (error instanceof Refused ? error.message : "The server does not answer. Nothing was changed.");

const DAY = 86400 * 1000;
const BODIES = {
  "new-key": (data) => ({
    name: data.get("name").trim() || null,
    scopes: data.getAll("scope"),
    expires_at: data.get("days") ? new Date(Date.now() + data.get("days") * DAY).toISOString() : null,
  }),
  "new-webhook": (data) => ({ url: data.get("url").trim(), events: data.getAll("event") }),
};

for (const form of document.querySelectorAll("form[data-creates]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const error = form.querySelector(".error");
    const button = form.querySelector("button.primary");
    if (button.disabled) return;
    error.hidden = true;
    if (!form.querySelector("input[type=checkbox]:checked")) {
      say(error, `Choose at least one of the ${form.querySelector("legend").textContent.toLowerCase()}.`);
      return;
    }
    button.disabled = true;
    try {
      const made = await call("POST", form.dataset.creates, { body: BODIES[form.id](new FormData(form)) });
      form.reset();
      show(made.token ?? made.secret);
      told();
    } catch (refused) {
      say(error, words(refused));
    } finally {
      button.disabled = false;
    }
  });
}

function say(line, text) {
  line.textContent = text;
  line.hidden = false;
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-enabled]");
  if (!button || (button.dataset.confirm && !confirm(button.dataset.confirm))) return;
  button.disabled = true;
  try {
    await call("PATCH", button.dataset.call, { body: { enabled: button.dataset.enabled === "true" } });
  } catch (refused) {
    notice(words(refused), true);
    button.disabled = false;
  }
  told();
});
