// The request as others would send it: in a shell, and from Python.

export function asCurl(body) {
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  const key = document.querySelector('meta[name="csrf"]').content ? ' \\\n  -H "Authorization: Bearer $SECATEUR_API_KEY"' : "";
  return `curl --fail-with-body -sS ${location.origin}/v1/jobs${key} \\\n  -H 'Content-Type: application/json' -d '${json}'`;
}

export function asPython(body) {
  const { model, dataset: whole, ...others } = body;
  // Which columns and splits are what stands beside the data in Python, and within it in JSON.
  const { columns, splits, ...dataset } = whole;
  const rest = { ...others, ...(columns ? { columns } : {}), ...(splits ? { splits } : {}) };
  const given = Object.entries(rest).map(([name, value]) => `        ${name}=${literal(value)},\n`).join("");
  return (
    `from secateur import Secateur\n\nwith Secateur(${literal(location.origin)}) as client:\n` +
    `    job = client.submit(\n        ${reference(model)},\n        ${reference(dataset)},\n${given}    )\n` +
    `    job.wait().download("./pruned")\n`
  );
}

// An upload by its id alone; what lies elsewhere whole.
function reference(source) {
  return literal(source.type === "upload" ? source.id : source);
}

function literal(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${literal(name)}: ${literal(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}
