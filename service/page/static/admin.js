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
const address = (data) => ({ url: data.get("url").trim(), events: data.getAll("event") });
const BODIES = {
  "new-key": (data) => ({
    name: data.get("name").trim() || null,
    scopes: data.getAll("scope"),
    expires_at: expiry(data),
  }),
  "new-webhook": address,
  "edit-webhook": address,
};

// A date counts to its end.
function expiry(data) {
  const days = data.get("days");
  if (days === "date") return `${data.get("date")}T23:59:59Z`;
  return days ? new Date(Date.now() + days * DAY).toISOString() : null;
}

const days = document.getElementById("days");
const byDate = () => {
  document.getElementById("on-date").hidden = days.value !== "date";
};
days?.addEventListener("change", byDate);
if (days) byDate();

for (const form of document.querySelectorAll("form[data-creates], form[data-changes]")) {
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
    const data = new FormData(form);
    if (data.get("days") === "date" && !data.get("date")) {
      say(error, "Enter the last day on which the key is valid.");
      document.getElementById("date").focus();
      return;
    }
    button.disabled = true;
    try {
      const { creates, changes } = form.dataset;
      const made = await call(creates ? "POST" : "PATCH", creates ?? changes, { body: BODIES[form.id](data) });
      if (creates) {
        form.reset();
        if (days) byDate();
        show(made.token ?? made.secret);
      } else notice("Saved.");
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
