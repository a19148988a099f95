// Draws figures from their tables: every number on a curve stands in the table below it.

const DASHES = { dash: [6, 4], level: [2, 4], bound: [9, 4, 2, 4] };
const drawn = new Map();

function draw(figure) {
  const canvas = figure.querySelector(".canvas");
  const table = read(figure);
  if (!table.x.length || !canvas.clientWidth) return;
  const look = (name) => getComputedStyle(figure).getPropertyValue(name).trim();
  const ink = look("--soft");
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis = (unit, label, size) => ({
    stroke: ink, font, labelFont: font, label, labelSize: 20, size,
    grid: { stroke: look("--line"), width: 1 }, ticks: { show: false },
    values: (_, splits) => splits.map((value) => written(value, unit, splits)),
  });
  const options = {
    width: canvas.clientWidth,
    height: Math.max(220, Math.min(320, canvas.clientWidth * 0.52)),
    padding: [10, 14, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false, points: { size: 8 } },
    scales: {
      x: { time: false, range: (_, low, high) => widened(low, high) },
      y: { range: () => spanned(figure, table.series) },
    },
    axes: [
      { ...axis(figure.dataset.xUnit, figure.dataset.xLabel, 24), ...wholes(figure.dataset.xUnit) },
      axis(figure.dataset.unit, figure.dataset.yLabel, 56),
    ],
    series: [{}, ...table.series.map((series) => lineOf(series, look(`--series-${series.colour}`)))],
    hooks: {
      drawAxes: [(plot) => intervals(plot, table, look)],
      setCursor: [(plot) => tell(figure, plot, table)],
    },
  };
  drawn.get(figure)?.destroy();
  drawn.set(figure, new uPlot(options, [table.x, ...table.series.map((series) => series.values)], canvas));
}

function read(figure) {
  const rows = [...figure.querySelectorAll("tbody tr")];
  const number = (cell) => (cell.dataset.value === undefined ? null : Number(cell.dataset.value));
  const span = ({ dataset: { low, high } }) => (low === undefined ? null : [Number(low), Number(high)]);
  const heads = [...figure.querySelectorAll("thead th")];
  const series = heads.flatMap((head, column) =>
    head.dataset.look
      ? [{
          name: head.textContent, look: head.dataset.look, colour: head.dataset.colour,
          values: rows.map((row) => number(row.cells[column])), spans: rows.map((row) => span(row.cells[column])),
        }]
      : [],
  );
  return { x: rows.map((row) => Number(row.dataset.x)), names: rows.map((row) => row.cells[0].textContent), first: heads[0].textContent, series };
}

// More points than this are a line without markers.
const MARKED = 40;

function lineOf({ name, look, values }, colour) {
  const still = look === "level" || look === "bound" || values.filter((value) => value !== null).length > MARKED;
  return {
    label: name, stroke: colour, width: look === "dots" ? 0 : still ? 1.5 : 2, dash: DASHES[look], spanGaps: true,
    points: { show: !still, size: look === "dots" ? 9 : 6, fill: colour },
    ...(look === "dots" ? { paths: () => null } : {}),
  };
}

// Under the curves: of a level its intervals as a band, as wide at each value as that reaches; of what was measured at each value a bar.
function intervals(plot, { x, series }, look) {
  const bars = series.filter(({ look, spans }) => look !== "level" && spans.some(Boolean));
  for (const each of series) {
    const colour = look(`--series-${each.colour}`);
    if (each.look === "level") band(plot, x, each.spans, colour);
    // Side by side, where several were measured at one value.
    else if (bars.includes(each)) whiskers(plot, x, each.spans, colour, 5 * (bars.indexOf(each) - (bars.length - 1) / 2));
  }
}

function band({ ctx, bbox, valToPos }, x, spans, colour) {
  const known = x.flatMap((value, row) => (spans[row] ? [{ at: valToPos(value, "x", true), span: spans[row] }] : []));
  ctx.save();
  ctx.fillStyle = colour;
  ctx.globalAlpha = 0.16;
  known.forEach(({ at, span: [low, high] }, number) => {
    const before = known[number - 1], after = known[number + 1];
    const left = before ? (before.at + at) / 2 : bbox.left;
    const right = after ? (at + after.at) / 2 : bbox.left + bbox.width;
    const top = valToPos(high, "y", true);
    ctx.fillRect(left, top, right - left, Math.max(1, valToPos(low, "y", true) - top));
  });
  ctx.restore();
}

function whiskers({ ctx, valToPos }, x, spans, colour, aside) {
  const cap = 4 * devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  x.forEach((value, row) => {
    if (!spans[row]) return;
    const at = valToPos(value, "x", true) + aside * devicePixelRatio;
    const [low, high] = spans[row].map((end) => valToPos(end, "y", true));
    for (const [fromX, fromY, toX, toY] of [[at, low, at, high], [at - cap, low, at + cap, low], [at - cap, high, at + cap, high]]) {
      ctx.moveTo(fromX, fromY);
      ctx.lineTo(toX, toY);
    }
  });
  ctx.stroke();
  ctx.restore();
}

function tell(figure, plot, { names, first, series }) {
  const at = plot.cursor.idx;
  const unit = figure.dataset.unit;
  const values = series.filter(({ values }) => at != null && values[at] !== null && at < values.length);
  const words = values.map(({ name, values }) => `${name} ${written(values[at], unit)}`);
  figure.querySelector(".readout").textContent = words.length ? `${first} ${names[at]}: ${words.join(", ")}` : "";
}

function written(value, unit, splits) {
  switch (unit) {
    case "share": return `${splits ? Number((100 * value).toFixed(2)) : (100 * value).toFixed(1)}%`;
    case "ratio": return `${splits ? Number(value.toFixed(2)) : value.toFixed(2)}×`;
    case "ms": return splits ? String(Number(value.toPrecision(3))) : `${Number(value.toPrecision(3))} ms`;
    case "count": return String(value);
    default: return String(Number(value.toPrecision(splits ? 3 : 4)));
  }
}

function wholes(unit) {
  return unit === "count" ? { incrs: [1, 2, 5, 10, 20, 50, 100] } : {};
}

// Room for the markers at both ends; a single point stands in the middle.
function widened(low, high) {
  const room = high > low ? 0.03 * (high - low) : 0.5;
  return [low - room, high + room];
}

// A figure of shares or ratios covers `data-least` at least: a difference that is small looks small, unless zoomed in on.
function spanned(figure, series) {
  const zoomed = figure.hasAttribute("data-zoomed");
  const values = series.flatMap(({ values, spans }) => [...values, ...(zoomed ? [] : spans.flatMap((span) => span ?? []))]);
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  if (figure.hasAttribute("data-zero")) return [0, high * 1.06 || 1];
  const least = zoomed ? 0 : Number(figure.dataset.least ?? 0);
  const room = high > low ? 0.12 * (high - low) : Math.abs(high) * 0.1 || 0.1;
  const missing = Math.max(0, least - (high - low + 2 * room)) / 2;
  const [bottom, top] = [low - room - missing, high + room + missing];
  // Nothing is above 100%, and nothing below 0.
  const over = figure.dataset.unit === "share" && high <= 1 ? Math.max(0, top - 1.01) : 0;
  return [low >= 0 ? Math.max(0, bottom - over) : bottom - over, top - over];
}

const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const figure = target.closest("figure");
    const plot = drawn.get(figure);
    if (!plot || plot.width !== target.clientWidth) draw(figure);
  }
});

function all() {
  for (const [figure, plot] of drawn) {
    if (figure.isConnected) continue;
    plot.destroy();
    drawn.delete(figure);
  }
  document.querySelectorAll("figure.plot").forEach((figure) => widths.observe(figure.querySelector(".canvas")));
}

function again() {
  document.querySelectorAll("figure.plot").forEach(draw);
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button.zoom");
  if (!button) return;
  const figure = button.closest("figure");
  button.setAttribute("aria-pressed", String(figure.toggleAttribute("data-zoomed")));
  draw(figure);
});

all();
document.addEventListener("htmx:afterSettle", all);
document.addEventListener("theme", again);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
