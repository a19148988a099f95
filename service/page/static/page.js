// What every page does: renew parts quietly, say what was refused, switch the theme, copy.

import { csrfHeaders, explain, notice } from "./calls.js";

const root = document.documentElement;

document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  document.dispatchEvent(new CustomEvent("theme"));
});

// On a narrow screen the navigation and the tabs scroll: where one is, is in view.
for (const shown of document.querySelectorAll(".bar nav [aria-current], .tabs [aria-current]")) {
  const list = shown.parentElement;
  list.scrollLeft = shown.offsetLeft - list.offsetLeft - (list.clientWidth - shown.clientWidth) / 2;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const source = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    notice("Copied.");
  } catch {
    // Without TLS a page may not write to the clipboard: what is wanted is marked, and the keyboard copies it.
    getSelection().selectAllChildren(source);
    notice("Selected. Press Ctrl+C to copy.");
  }
});

// Last answer by what asked for it: an element that has not changed is left alone, with its focus and its open details.
const seen = new Map();

document.addEventListener("htmx:configRequest", (event) => Object.assign(event.detail.headers, csrfHeaders()));

document.addEventListener("htmx:beforeRequest", (event) => {
  const quiet = event.detail.elt.hasAttribute("data-quiet");
  const inUse = event.detail.elt.contains(document.activeElement) && document.activeElement.matches("pre");
  if (quiet && (document.hidden || inUse)) event.preventDefault();
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr, requestConfig } = event.detail;
  if (requestConfig.verb !== "get" || xhr.status !== 200) return;
  const key = `${target.id} ${requestConfig.path}`;
  if (event.detail.elt.hasAttribute("data-quiet") && seen.get(key) === xhr.responseText) {
    event.detail.shouldSwap = false;
    return;
  }
  seen.set(key, xhr.responseText);
  kept = stateOf(target);
});

document.addEventListener("htmx:afterSettle", () => restore());

document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, xhr, successful, requestConfig } = event.detail;
  if (requestConfig.verb === "get") return;
  if (!successful) {
    if (xhr.status) notice(explain(xhr.responseText, xhr.status), true);
    document.body.dispatchEvent(new Event("told"));
  } else if (elt.dataset.then) {
    location.assign(elt.dataset.then);
  } else {
    document.body.dispatchEvent(new Event("told"));
  }
});

document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig.verb !== "get") notice("The server does not answer. Nothing was changed.", true);
});

// What a person has done to a part that is about to be replaced: ticks, open details, axes zoomed in, how far a list was scrolled.
let kept = null;

function stateOf(part) {
  return {
    ticked: [...part.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.id).filter(Boolean),
    open: [...part.querySelectorAll("details[open]")].map((each) => each.id).filter(Boolean),
    zoomed: [...part.querySelectorAll("figure[data-zoomed]")].map((each) => each.id),
    scrolled: [...part.querySelectorAll(".wide, pre")].map((each) => [each.scrollLeft, each.scrollTop]),
    id: part.id,
  };
}

function restore() {
  if (!kept) return;
  for (const id of kept.ticked) {
    const box = document.getElementById(id);
    if (box) box.checked = true;
  }
  for (const id of kept.open) document.getElementById(id)?.setAttribute("open", "");
  for (const id of kept.zoomed) {
    const figure = document.getElementById(id);
    figure?.setAttribute("data-zoomed", "");
    figure?.querySelector(".zoom")?.setAttribute("aria-pressed", "true");
  }
  document.getElementById(kept.id)?.querySelectorAll(".wide, pre").forEach((each, number) => {
    const [left, top] = kept.scrolled[number] ?? [0, 0];
    each.scrollLeft = left;
    each.scrollTop = top;
  });
  kept = null;
}
