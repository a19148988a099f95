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
    series: [{}, ...table.series.map((series, number) => lineOf(series, look(`--series-${number % 6}`)))],
    hooks: {
      drawAxes: [(plot) => table.series.forEach((series, number) => band(plot, table.x, series.spans, look(`--series-${number % 6}`)))],
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
          name: head.textContent, look: head.dataset.look,
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

// The interval of each value: shaded between neighbours, and a bar at each. Drawn under the curves.
function band(plot, x, spans, colour) {
  const { ctx } = plot;
  const at = (row) => plot.valToPos(x[row], "x", true);
  const [low, high] = [0, 1].map((end) => (row) => plot.valToPos(spans[row][end], "y", true));
  ctx.save();
  ctx.fillStyle = ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  for (let row = 0; row < x.length; row++) {
    if (!spans[row]) continue;
    ctx.globalAlpha = 0.45;
    ctx.beginPath();
    ctx.moveTo(at(row), low(row));
    ctx.lineTo(at(row), high(row));
    ctx.stroke();
    if (!spans[row + 1]) continue;
    ctx.globalAlpha = 0.14;
    ctx.beginPath();
    ctx.moveTo(at(row), low(row));
    ctx.lineTo(at(row), high(row));
    ctx.lineTo(at(row + 1), high(row + 1));
    ctx.lineTo(at(row + 1), low(row + 1));
    ctx.fill();
  }
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
