// Size, cost and time of a job, as a short table and a few sentences.

export function estimate(found) {
  const first = found.steps[0];
  const last = found.steps[found.steps.length - 1];
  const facts = [
    ["Time", time(found)],
    ["Host memory", found.host_memory_bytes === null ? null : bytes(found.host_memory_bytes)],
    ["GPU memory", found.device_memory_bytes === null ? null : bytes(found.device_memory_bytes)],
    ["All parameters", change(first.total_parameters, last.total_parameters)],
    ["FLOPs", change(first.flops, last.flops)],
    ["File", `${bytes(first.file_bytes)} → ${bytes(last.file_bytes)}`],
  ].filter(([, value]) => value !== null);
  const list = element("dl", { className: "facts" }, facts.map(([name, value]) => element("div", {}, [element("dt", {}, [name]), element("dd", {}, [value])])));
  const told = [found.reason, ...found.notes].filter(Boolean).map((words) => element("p", { className: "soft" }, [words]));
  return [list, table(found.steps), ...told];
}

// Seconds from and to, in a unit that suits both: "2 to 6 minutes".
export function timeRange(low, high) {
  const [size, unit] = [[3600, "hours"], [60, "minutes"]].find(([size]) => high >= 2 * size) ?? [1, "seconds"];
  const [from, to] = [low, high].map((seconds) => String(Number((seconds / size).toPrecision(2))));
  return `${from} to ${to} ${unit}`;
}

// A range, where only the worker's device was measured and no job of the family has finished.
function time(found) {
  const first = found.first_estimate;
  if (found.seconds === null) return first ? `about ${timeRange(...first.seconds_range)} on this worker` : null;
  return (found.seconds_range ?? [found.seconds]).map(duration).join(" to ");
}

function table(steps) {
  const columns = [
    ["Step", (step) => String(step.step)],
    ["Attention removed", (step) => percent(step.attention_sparsity), (step) => step.attention_sparsity],
    ["Feed-forward removed", (step) => percent(step.ffn_sparsity), (step) => step.ffn_sparsity],
    ["Parameters", (step) => count(step.total_parameters)],
    ["File", (step) => bytes(step.file_bytes)],
  ].filter(([, , used]) => !used || steps.some(used));
  const heads = columns.map(([name]) => name);
  const rows = steps.map((step) => columns.map(([, text]) => text(step)));
  const cell = (kind, scope) => (text) => element(kind, { className: "number", ...(scope ? { scope } : {}) }, [text]);
  const head = element("thead", {}, [element("tr", {}, heads.map(cell("th", "col")))]);
  const body = element("tbody", {}, rows.map(([step, ...rest]) => element("tr", {}, [cell("th", "row")(step), ...rest.map(cell("td"))])));
  const caption = element("caption", { className: "unseen" }, ["What every step removes and keeps"]);
  const whole = element("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: "What every step removes and keeps" }, [element("table", {}, [caption, head, body])]);
  return whole;
}

function element(name, properties, children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;
const change = (before, after) => `${count(before)} → ${count(after)} (${(100 * (after / before - 1)).toFixed(0)}%)`;

export function count(number) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) return `${(number / size).toPrecision(3)} ${unit}`;
  }
  return String(number);
}

export const bytes = (number) => (number < 1000 ? `${number} B` : `${count(number)}B`);

export function duration(seconds) {
  const whole = Math.round(seconds);
  for (const [size, unit, small, smallUnit] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    const rest = Math.floor((whole % size) / small);
    if (whole >= size) return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${smallUnit}` : ""}`;
  }
  return `${whole} s`;
}
