// What two variants answered, side by side.
import { alike, best, holdsClasses, median } from "./alike.js";
import { isFloat } from "./tensors.js";
import { written } from "./written.js";

const TOP = 5;
const FIRST = 8;
const SIDES = ["A", "B"];

export class Answers {
  constructor(place, { class_names }) {
    this.place = place;
    this.names = class_names;
  }

  // `sides`: {label, runs} each, a run being what tensors.js' `asked` gives. `truth`: the class it is, where that is known.
  show(sides, truth) {
    const last = sides.map((side) => side.runs.at(-1).outputs);
    const outputs = last[0].map((output, index) => this.output(sides, [output, last[1][index]], truth));
    this.place.replaceChildren(latencies(sides), ...outputs);
  }

  output(sides, pair, truth) {
    const [one, other] = pair;
    const card = element("section", { class: "card", "aria-label": `Output ${one.name}` });
    const same = one.values.length === other.values.length;
    const classes = same && holdsClasses(one, this.names);
    const heading = element("div", { class: "title" }, [
      element("h2", {}, [element("span", { class: "mono" }, [one.name]), " ", element("span", { class: "soft plain-weight" }, [`${one.datatype} ${one.shape.join(" × ")}`])]),
      classes ? agreement(pair) : "",
    ]);
    const columns = pair.map((output, index) =>
      element("div", { class: "answer" }, [
        element("h3", {}, [element("span", { class: "side" }, [SIDES[index]]), " ", sides[index].label]),
        classes ? this.ranking(output, truth) : values(output),
      ]),
    );
    card.append(heading, element("div", { class: "columns answers" }, columns));
    if (same && one.datatype !== "BYTES") card.append(likeness(pair));
    return card;
  }

  ranking({ shape, values: scores }, truth) {
    const list = element("ol", { class: "ranking" });
    for (const { index, score, share } of best(scores.subarray(0, shape[1]), Math.min(TOP, shape[1]))) {
      const right = truth === index ? element("span", { class: "chip good" }, ["its label"]) : "";
      list.append(
        element("li", {}, [
          element("span", { class: "class-name" }, [this.names?.[index] ?? `class ${index}`, " ", right]),
          element("span", { class: "class-share" }, [written("percent", share)]),
          bar(share),
          element("small", { class: "class-score" }, [`score ${short(score)}`]),
        ]),
      );
    }
    return list;
  }
}

function agreement([one, other]) {
  const rows = one.shape[0];
  const top = ({ shape, values: scores }, row) => best(scores.subarray(row * shape[1], (row + 1) * shape[1]), 1)[0].index;
  let agreed = 0;
  for (let row = 0; row < rows; row += 1) agreed += top(one, row) === top(other, row);
  const text = rows > 1 ? `the same answer for ${agreed} of ${rows}` : agreed ? "same answer" : "different answers";
  return element("span", { class: `chip ${agreed === rows ? "good" : "bad"}` }, [text]);
}

function likeness([one, other]) {
  const { cosine, most } = alike(one.values, other.values);
  const fact = (name, value, note) =>
    element("div", {}, [element("dt", {}, [name]), element("dd", {}, [value, element("small", {}, [note])])]);
  return element("dl", { class: "facts after" }, [
    fact("Cosine", cosine === null ? "–" : cosine.toFixed(6), "1 is the same direction"),
    fact("Largest difference", short(most), "of any value"),
    fact("Values", one.values.length.toLocaleString("en"), isFloat(one.datatype) ? "" : one.datatype),
  ]);
}

function values({ values: all }) {
  const shown = Array.from(all.slice(0, FIRST), (value) => (typeof value === "number" ? short(value) : value)).join(", ");
  return element("p", { class: "mono first-values" }, [shown + (all.length > FIRST ? ", …" : "")]);
}

function latencies(sides) {
  const figures = sides.map(({ runs }) => ({
    computeMs: median(runs.map((run) => run.computeMs)),
    roundMs: median(runs.map((run) => run.roundMs)),
  }));
  const count = sides[0].runs.length;
  const ms = (value) => (value === null ? "–" : written("milliseconds", value));
  const slowest = Math.max(...figures.map(({ computeMs }) => computeMs ?? 0)) || 1;
  const rows = sides.map(({ label }, index) =>
    element("tr", {}, [
      element("th", { scope: "row", class: "name" }, [element("span", { class: "side" }, [SIDES[index]]), " ", label]),
      element("td", {}, [ms(figures[index].computeMs), bar((figures[index].computeMs ?? 0) / slowest, index ? "accent" : "plain")]),
      element("td", {}, [ms(figures[index].roundMs)]),
    ]),
  );
  const head = element("thead", {}, [
    element("tr", {}, ["Variant", "Computing, on the server", "Round trip"].map((text) => element("th", { scope: "col" }, [text]))),
  ]);
  const [a, b] = figures.map(({ computeMs }) => computeMs);
  const said = a && b ? `${sides[1].label} is ${written("times", a / b)} as fast as ${sides[0].label}` : "";
  return element("section", { class: "card flush", "aria-label": "Latency" }, [
    element("div", { class: "title" }, [
      element("h2", {}, [said || "Latency"]),
      element("small", {}, [count > 1 ? `medians of ${count} runs each, turn by turn` : "one run each: run 20 times to compare"]),
    ]),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Latency of both" }, [
      element("table", {}, [head, element("tbody", {}, rows)]),
    ]),
  ]);
}

function short(value) {
  return Number.isFinite(value) ? Number(value.toPrecision(4)).toString() : String(value);
}

function bar(share, tone = "accent") {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const set = (node, names) => Object.entries(names).forEach(([name, value]) => node.setAttribute(name, value));
  set(svg, { class: `bar ${tone}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [kind, width] of [["whole", 100], ["filled", 100 * Math.min(1, Math.max(0, share))]]) {
    const part = document.createElementNS(space, "rect");
    set(part, { class: kind, width, height: 6 });
    svg.append(part);
  }
  return svg;
}

function element(name, attributes, children = []) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
