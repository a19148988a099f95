// Calls to /v1 as the page makes them, and what is said of their errors.

export class Refused extends Error {
  // `problem` is the answer's body (RFC 9457); `items` are [pointer, sentence] pairs.
  constructor(problem, status) {
    super(problem.detail ?? `The server answered ${status}.`);
    this.status = status;
    this.code = problem.code;
    this.items = (problem.errors ?? []).map((item) => [item.pointer, item.detail]);
  }
}

export function csrfHeaders() {
  const token = document.querySelector('meta[name="csrf"]')?.content;
  return token ? { "X-CSRF-Token": token } : {};
}

export async function call(method, path, { body, headers = {}, signal } = {}) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(path, {
    method,
    signal,
    headers: { Accept: "application/json", ...json, ...(method === "GET" ? {} : csrfHeaders()), ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!answer.ok) throw new Refused(parsed(await answer.text()), answer.status);
  return answer.status === 204 ? null : answer.json();
}

export function explain(text, status) {
  return new Refused(parsed(text), status).message;
}

export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

export function notice(words, wrong = false) {
  const line = document.createElement("p");
  line.textContent = words;
  if (wrong) line.className = "wrong";
  document.getElementById("notices").replaceChildren(line);
  setTimeout(() => line.remove(), wrong ? 12000 : 4000);
}
