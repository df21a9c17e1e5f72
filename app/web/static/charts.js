// Draws <figure data-chart>: what `app/web/charts.py` wrote into its <script type="application/json">, by uPlot.
//
// Colours are the style's custom properties, and are read anew when the colour scheme changes.
import { written } from "./written.js";

const drawn = new Map();

export function drawCharts(root) {
  for (const [figure, chart] of drawn) {
    if (!figure.isConnected) {
      chart.destroy();
      drawn.delete(figure);
    }
  }
  for (const figure of root.querySelectorAll("[data-chart]")) {
    if (!drawn.has(figure)) drawn.set(figure, new Drawn(figure));
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of drawn.values()) chart.draw();
});

class Drawn {
  constructor(figure) {
    this.place = figure.querySelector("[data-chart-canvas]");
    this.chart = JSON.parse(figure.querySelector("[data-chart-data]").textContent);
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.place);
    this.draw();
  }

  draw() {
    this.plot?.destroy();
    const style = styleOf(this.place);
    const { options, rows } = KINDS[this.chart.kind](this.chart, style, this.tip, this.place);
    this.plot = new uPlot({ ...this.size(), ...COMMON, ...options }, rows, this.place);
    this.plot.over.append(this.tip);
  }

  size() {
    return { width: Math.max(this.place.clientWidth, 200), height: this.place.clientHeight };
  }

  resize() {
    const { width, height } = this.size();
    if (width !== this.plot.width || height !== this.plot.height) this.plot.setSize({ width, height });
  }

  destroy() {
    this.sizes.disconnect();
    this.plot.destroy();
  }
}

const COMMON = { legend: { show: false }, padding: [12, 16, 0, 4] };

function styleOf(place) {
  const computed = getComputedStyle(place);
  const read = (name) => computed.getPropertyValue(`--${name}`).trim();
  const tones = Object.fromEntries(
    ["plain", "accent", "second", "third", "good", "warn", "bad"].map((name) => [name, read(`tone-${name}`)]),
  );
  return { tones, ink: read("ink"), soft: read("soft"), line: read("line"), card: read("card"), font: computed.fontFamily };
}

// Axes, with as many digits as their values need.
function axis(spec, style, more = {}) {
  return {
    stroke: style.soft,
    font: `12px ${style.font}`,
    labelFont: `12px ${style.font}`,
    label: spec.label,
    labelSize: 18,
    labelGap: 2,
    grid: { stroke: style.line, width: 1 },
    ticks: { show: false },
    values: (_, values) => values.map((value) => (value === null ? "" : written(spec.format, value))),
    ...more,
  };
}

const BELOW = { space: 70, size: 30 };
const SIDE = { size: (plot, values) => sideOf(plot, values), gap: 6 };

function sideOf(plot, values) {
  if (!values?.length) return 40;
  plot.ctx.font = `${12 * devicePixelRatio}px sans-serif`;
  return Math.ceil(Math.max(...values.map((text) => plot.ctx.measureText(text ?? "").width)) / devicePixelRatio) + 14;
}

function scaleOf(spec, values) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  const least = Math.min(...known);
  const most = Math.max(...known);
  if (spec.log) return { distr: 3, range: [least / 1.25, most * 1.25] };
  // Values that are all but equal are not to look far apart.
  const room = Math.max((most - least) * 0.14, Math.abs(most) * 0.01) || 1;
  return { range: [least - room, most + room] };
}

// ---- points with labels, and the frontier ----

function scatter(chart, style, tip) {
  const points = [...chart.points].sort((one, other) => one.x - other.x);
  const most = Math.max(...points.map((point) => point.size), 1e-12);
  // Area, not radius, is what the eye compares.
  const radius = (point) => (4 + 9 * Math.sqrt(point.size / most)) * devicePixelRatio;
  const spread = points.flatMap((point) => [point.x, point.x_low ?? point.x, point.x_high ?? point.x]);
  const rows = [points.map((point) => point.x), points.map((point) => point.y)];
  const at = (plot, x, y) => [plot.valToPos(x, "x", true), plot.valToPos(y, "y", true)];

  function frontier(plot) {
    if (!chart.frontier.length) return;
    const { ctx, bbox } = plot;
    ctx.strokeStyle = style.tones.accent;
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    let [, before] = at(plot, ...chart.frontier[0]);
    ctx.moveTo(at(plot, ...chart.frontier[0])[0], bbox.top + bbox.height);
    for (const [x, y] of chart.frontier.map((pair) => at(plot, ...pair))) {
      ctx.lineTo(x, x === at(plot, ...chart.frontier[0])[0] ? y : before);
      ctx.lineTo(x, y);
      before = y;
    }
    ctx.lineTo(bbox.left + bbox.width, before);
    ctx.stroke();
    ctx.setLineDash([]);
  }

  function marks(plot) {
    const { ctx } = plot;
    for (const point of points) {
      const [x, y] = at(plot, point.x, point.y);
      const tone = style.tones[point.tone];
      if (point.x_low !== null && point.x_high !== null) {
        ctx.strokeStyle = tone;
        ctx.lineWidth = 1.5 * devicePixelRatio;
        stroke(ctx, plot.valToPos(point.x_low, "x", true), y, plot.valToPos(point.x_high, "x", true), y);
      }
      ctx.beginPath();
      ctx.arc(x, y, radius(point), 0, 2 * Math.PI);
      ctx.globalAlpha = 0.28;
      ctx.fillStyle = tone;
      ctx.fill();
      ctx.globalAlpha = 1;
      ctx.strokeStyle = tone;
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.stroke();
    }
  }

  function labels(plot) {
    const { ctx, bbox } = plot;
    const high = 13 * devicePixelRatio;
    ctx.font = `500 ${high}px ${style.font}`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    const taken = points.map((point) => {
      const [x, y] = at(plot, point.x, point.y);
      const r = radius(point);
      return [x - r, y - r, x + r, y + r];
    });
    points.forEach((point, index) => {
      const text = point.label.length > 28 ? `${point.label.slice(0, 27)}…` : point.label;
      const box = placed(taken, index, ctx.measureText(text).width, high, bbox);
      taken.push(box);
      ctx.lineWidth = 3 * devicePixelRatio;
      ctx.strokeStyle = style.card;
      ctx.strokeText(text, box[0], (box[1] + box[3]) / 2);
      ctx.fillStyle = style.ink;
      ctx.fillText(text, box[0], (box[1] + box[3]) / 2);
    });
  }

  const nearest = (plot) => {
    const { left, top } = plot.cursor;
    let best = null;
    for (const point of points) {
      const away = Math.hypot(plot.valToPos(point.x, "x") - left, plot.valToPos(point.y, "y") - top);
      if (left >= 0 && away < 28 && (best === null || away < best.away)) best = { point, away };
    }
    return best?.point;
  };

  function hover(plot) {
    const point = nearest(plot);
    plot.over.classList.toggle("pointed", Boolean(point));
    const lines = point && [
      `${chart.x.label}: ${written(chart.x.format, point.x)}`,
      `${chart.y.label}: ${written(chart.y.format, point.y)}`,
      ...(point.note ? [point.note] : []),
    ];
    showTip(tip, plot, point && [point.label, ...lines], point && plot.valToPos(point.x, "x"), point && plot.valToPos(point.y, "y"));
  }

  return {
    rows,
    options: {
      scales: { x: { time: false, ...scaleOf(chart.x, spread) }, y: scaleOf(chart.y, rows[1]) },
      axes: [axis(chart.x, style, BELOW), axis(chart.y, style, { ...SIDE, space: 36 })],
      series: [{}, { show: true, paths: () => null, points: { show: false } }],
      cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
      hooks: { draw: [frontier, marks, labels], setCursor: [hover] },
    },
  };
}

// Where a label is in the way least: above its point, below, beside it, and then along the diagonals.
function placed(taken, index, width, high, bbox) {
  const [left, top, right, bottom] = taken[index];
  const gap = 4 * devicePixelRatio;
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  const corners = [
    [x - width / 2, top - gap - high],
    [x - width / 2, bottom + gap],
    [right + gap, y - high / 2],
    [left - gap - width, y - high / 2],
    [right, top - high],
    [right, bottom],
    [left - width, top - high],
    [left - width, bottom],
  ];
  let best = null;
  for (const [at, from] of corners) {
    const box = [at, from, at + width, from + high];
    const outside = Math.max(0, bbox.left - box[0], box[2] - bbox.left - bbox.width, bbox.top - box[1], box[3] - bbox.top - bbox.height);
    const cost = outside * 1000 + taken.reduce((sum, other) => sum + overlap(box, other), 0);
    if (best === null || cost < best.cost) best = { box, cost };
  }
  return best.box;
}

function overlap(one, other) {
  const wide = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const high = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  return wide > 0 && high > 0 ? wide * high : 0;
}

function stroke(ctx, x, y, toX, toY) {
  ctx.beginPath();
  ctx.moveTo(x, y);
  ctx.lineTo(toX, toY);
  ctx.stroke();
}

function showTip(tip, plot, lines, left, top) {
  tip.hidden = !lines;
  if (!lines) return;
  const [heading, ...rest] = lines;
  const strong = document.createElement("strong");
  strong.textContent = heading;
  tip.replaceChildren(
    strong,
    ...rest.map((line) => {
      const part = document.createElement("span");
      part.textContent = line;
      return part;
    }),
  );
  const rightHalf = left > plot.over.clientWidth / 2;
  tip.style.left = rightHalf ? "" : `${left + 14}px`;
  tip.style.right = rightHalf ? `${plot.over.clientWidth - left + 14}px` : "";
  tip.style.top = `${Math.max(0, Math.min(top - 10, plot.over.clientHeight - tip.offsetHeight))}px`;
}

// ---- lines with bands ----

function lines(chart, style, tip) {
  const rows = [chart.at];
  const series = [{}];
  const bands = [];
  for (const each of chart.series) {
    const colour = style.tones[each.tone];
    const paths = chart.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined;
    rows.push(each.values);
    series.push({ label: each.label, stroke: colour, width: 2, paths, dash: each.dashed ? [6, 5] : undefined, points: { show: chart.at.length < 2 } });
    if (each.low && each.high) {
      rows.push(each.high, each.low);
      const edge = { stroke: "transparent", width: 0, paths, points: { show: false } };
      series.push(edge, { ...edge });
      bands.push({ series: [series.length - 2, series.length - 1], fill: faded(colour) });
    }
  }
  const values = rows.slice(1).flat();
  const hover = (plot) => {
    const index = plot.cursor.left >= 0 ? plot.cursor.idx : null;
    const known = index !== null && index !== undefined;
    const text = known && [
      `${chart.x.label}: ${written(chart.x.format, chart.at[index])}`,
      ...chart.series.map((each) => `${each.label}: ${spoken(chart.y, each, index)}`),
    ];
    showTip(tip, plot, text || null, known ? plot.valToPos(chart.at[index], "x") : 0, 10);
  };
  return {
    rows,
    options: {
      scales: { x: { time: false, ...(chart.x.log ? { distr: 3 } : {}) }, y: scaleOf(chart.y, values) },
      axes: [axis(chart.x, style, BELOW), axis(chart.y, style, { ...SIDE, space: 36 })],
      series,
      bands,
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      hooks: { setCursor: [hover], draw: [(plot) => names(plot, chart, style)] },
    },
  };
}

// The name of each line at its last value: no legend to look up.
function names(plot, chart, style) {
  if (chart.series.length < 2) return;
  const { ctx, bbox } = plot;
  const high = 12 * devicePixelRatio;
  ctx.font = `500 ${high}px ${style.font}`;
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  const taken = [];
  for (const each of chart.series) {
    const last = each.values.findLast((value) => value !== null);
    if (last === undefined) continue;
    let y = plot.valToPos(last, "y", true) - high;
    while (taken.some((other) => Math.abs(other - y) < high * 1.2)) y -= high * 1.2;
    taken.push(y);
    ctx.lineWidth = 3 * devicePixelRatio;
    ctx.strokeStyle = style.card;
    ctx.strokeText(each.label, bbox.left + bbox.width, y);
    ctx.fillStyle = style.tones[each.tone];
    ctx.fillText(each.label, bbox.left + bbox.width, y);
  }
}

function faded(colour) {
  return `color-mix(in srgb, ${colour} 18%, transparent)`;
}

function spoken(y, series, index) {
  const value = series.values[index];
  if (value === null) return "–";
  const band = series.low && series.high && series.low[index] !== null && series.high[index] !== null;
  return written(y.format, value) + (band ? ` (${written(y.format, series.low[index])} to ${written(y.format, series.high[index])})` : "");
}

// ---- bars ----

function bars(chart, style, tip) {
  const at = chart.labels.map((_, index) => index);
  const count = chart.series.length;
  const most = Math.max(0, ...chart.series.flatMap((each) => each.values.filter((value) => value !== null)));
  const least = Math.min(0, ...chart.series.flatMap((each) => each.values.filter((value) => value !== null)));

  function draw(plot) {
    const { ctx } = plot;
    const slot = plot.valToPos(1, "x", true) - plot.valToPos(0, "x", true);
    const wide = Math.min((slot * 0.72) / count, 48 * devicePixelRatio);
    const zero = plot.valToPos(0, "y", true);
    chart.series.forEach((each, which) => {
      ctx.fillStyle = style.tones[each.tone];
      each.values.forEach((value, index) => {
        if (value === null) return;
        const x = plot.valToPos(index, "x", true) + (which - count / 2) * wide;
        const y = plot.valToPos(value, "y", true);
        ctx.fillRect(x + devicePixelRatio, Math.min(y, zero), wide - 2 * devicePixelRatio, Math.abs(zero - y));
      });
    });
  }

  const hover = (plot) => {
    const index = plot.cursor.left >= 0 ? plot.cursor.idx : null;
    const known = index !== null && index !== undefined;
    const text = known && [chart.labels[index], ...chart.series.map((each) => `${each.label}: ${spoken(chart.y, each, index)}`)];
    showTip(tip, plot, text || null, known ? plot.valToPos(index, "x") : 0, 10);
  };
  return {
    rows: [at, ...chart.series.map((each) => each.values)],
    options: {
      scales: { x: { time: false, range: [-0.6, chart.labels.length - 0.4] }, y: { range: [least * 1.08, most * 1.08 || 1] } },
      axes: [
        axis(chart.x, style, {
          size: 30,
          grid: { show: false },
          splits: () => at,
          values: (plot, values) => values.map((index) => shortened(plot, chart.labels, index)),
        }),
        axis(chart.y, style, { ...SIDE, space: 36 }),
      ],
      series: [{}, ...chart.series.map(() => ({ show: true, paths: () => null, points: { show: false } }))],
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      hooks: { draw: [draw], setCursor: [hover] },
    },
  };
}

// As many labels as fit beside each other.
function shortened(plot, labels, index) {
  const room = plot.width / labels.length;
  const every = Math.ceil(24 / room);
  if (index % every) return "";
  const letters = Math.max(2, Math.floor((room * every) / 7.5));
  const label = labels[index] ?? "";
  return label.length > letters ? `${label.slice(0, letters - 1)}…` : label;
}

// ---- intervals below each other ----

const ROW_PIXELS = 34;

function intervals(chart, style, tip, place) {
  const rows = chart.rows;
  place.style.height = `${rows.length * ROW_PIXELS + 62}px`;
  const known = rows.flatMap((row) => [row.low, row.estimate, row.high]).filter((value) => value !== null);
  if (chart.reference !== null) known.push(chart.reference);
  const scale = scaleOf(chart.x, known.length ? known : [0, 1]);
  const names = rows.map((row) => (row.label.length > 22 ? `${row.label.slice(0, 21)}…` : row.label));

  function draw(plot) {
    const { ctx, bbox } = plot;
    if (chart.reference !== null) {
      const x = plot.valToPos(chart.reference, "x", true);
      ctx.strokeStyle = style.soft;
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
      stroke(ctx, x, bbox.top, x, bbox.top + bbox.height);
      ctx.setLineDash([]);
      if (chart.reference_label) {
        ctx.font = `${11 * devicePixelRatio}px ${style.font}`;
        ctx.fillStyle = style.soft;
        ctx.textAlign = x > bbox.left + bbox.width / 2 ? "right" : "left";
        ctx.textBaseline = "top";
        ctx.fillText(chart.reference_label, x + (ctx.textAlign === "left" ? 5 : -5) * devicePixelRatio, bbox.top);
      }
    }
    rows.forEach((row, index) => interval(plot, row, plot.valToPos(index, "y", true)));
  }

  // A bound that is not known is beyond what is drawn.
  function interval(plot, row, y) {
    const { ctx, bbox } = plot;
    const tone = style.tones[row.tone];
    const low = row.low === null ? bbox.left : plot.valToPos(row.low, "x", true);
    const high = row.high === null ? bbox.left + bbox.width : plot.valToPos(row.high, "x", true);
    const cap = 5 * devicePixelRatio;
    ctx.strokeStyle = tone;
    ctx.lineWidth = 2.5 * devicePixelRatio;
    ctx.globalAlpha = row.low === null && row.high === null ? 0.25 : 0.75;
    stroke(ctx, low, y, high, y);
    if (row.low !== null) stroke(ctx, low, y - cap, low, y + cap);
    if (row.high !== null) stroke(ctx, high, y - cap, high, y + cap);
    ctx.globalAlpha = 1;
    if (row.estimate === null) return;
    ctx.fillStyle = tone;
    ctx.beginPath();
    ctx.arc(plot.valToPos(row.estimate, "x", true), y, 5 * devicePixelRatio, 0, 2 * Math.PI);
    ctx.fill();
  }

  const hover = (plot) => {
    const index = plot.cursor.left >= 0 ? Math.round(plot.posToVal(plot.cursor.top, "y")) : -1;
    const row = rows[index];
    const value = (number) => (number === null ? "not known" : written(chart.x.format, number));
    const text = row && [row.label, `estimate: ${value(row.estimate)}`, `from ${value(row.low)} to ${value(row.high)}`];
    showTip(tip, plot, text, row && plot.cursor.left, row && plot.valToPos(index, "y"));
  };
  return {
    rows: [[0, 1], [null, null]],
    options: {
      scales: { x: { time: false, ...scale }, y: { range: [-0.5, rows.length - 0.5], dir: -1 } },
      axes: [
        axis(chart.x, style, BELOW),
        axis({ label: undefined, format: "number" }, style, {
          ...SIDE,
          stroke: style.ink,
          label: undefined,
          grid: { show: false },
          splits: () => names.map((_, index) => index),
          values: () => names,
        }),
      ],
      series: [{}, { paths: () => null, points: { show: false } }],
      cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
      hooks: { draw: [draw], setCursor: [hover] },
    },
  };
}

const KINDS = { scatter, lines, bars, intervals };
