// <form data-try>: an input, as numbers or as an image, is sent to two variants; their answers are shown side by side.
import { Answers } from "./answers.js";
import { decoded, encoded, asked, isFloat } from "./tensors.js";
import { grey, normalised, pixelsOf, resized } from "./pixels.js";

const SHOWN = 8192;
const PRESETS = {
  unit: ["1/255", [], []],
  imagenet: ["1/255", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
  cifar: ["1/255", [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]],
  mnist: ["1/255", [0.1307], [0.3081]],
  half: ["1/255", [0.5], [0.5]],
  bytes: ["1", [], []],
};

export function wireTries(root) {
  for (const form of root.querySelectorAll("form[data-try]")) {
    if (form.dataset.trying) continue;
    form.dataset.trying = "yes";
    new Try(form);
  }
}

class Try {
  constructor(form) {
    this.form = form;
    this.tried = JSON.parse(form.querySelector("[data-tried]").textContent);
    this.inputs = this.tried.inputs.map((spec, index) => new Input(spec, form.querySelectorAll("[data-input]")[index]));
    this.answers = new Answers(document.getElementById("answers"), this.tried);
    this.truth = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run(Number(event.submitter?.value ?? 1));
    });
    for (const button of form.querySelectorAll("[data-fill]")) {
      button.addEventListener("click", () => this.fill(button.dataset.fill));
    }
    const dataset = form.querySelector("[data-dataset]");
    dataset?.addEventListener("change", () => {
      form.querySelector("[data-index]").max = dataset.selectedOptions[0].dataset.samples - 1;
    });
    for (const input of this.inputs) input.place.addEventListener("input", () => (this.truth = null));
  }

  async fill(how) {
    this.say("");
    this.problem("");
    this.truth = null;
    if (how === "zeros" || how === "random") {
      for (const input of this.inputs) input.fill(how);
      return;
    }
    const dataset = this.form.querySelector("[data-dataset]");
    const index = this.form.querySelector("[data-index]");
    if (how === "any") index.value = Math.floor(Math.random() * dataset.selectedOptions[0].dataset.samples);
    const query = new URLSearchParams({ dataset: dataset.value, index: index.value || "0" });
    const response = await fetch(`/models/${encodeURIComponent(this.tried.model)}/try/sample?${query}`);
    const sample = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    if (!response.ok) return this.problem(sample.error ?? sample.detail);
    for (const input of this.inputs) input.take(sample.arrays[input.spec.name]);
    this.truth = sample.label;
    const name = this.tried.class_names?.[sample.label] ?? sample.label;
    this.say(sample.label === null ? "" : `Labelled ${name}`);
    return undefined;
  }

  async run(times) {
    if (this.busy) return;
    this.problem("");
    let inputs;
    try {
      inputs = this.inputs.map((input) => input.tensor());
    } catch (error) {
      return this.problem(error.message);
    }
    this.setBusy(true);
    try {
      await this.both(inputs, times);
    } catch (error) {
      const { message } = error;
      this.problem(error instanceof TypeError ? "The server does not answer. Is it running?" : message[0].toUpperCase() + message.slice(1));
      this.say("");
    } finally {
      this.setBusy(false);
    }
    return undefined;
  }

  // Turn by turn, so that what else the machine does falls on both alike; the first to go alternates.
  async both(inputs, times) {
    const sides = [...this.form.querySelectorAll("[data-variant]")].map((select) => ({
      version: select.value,
      label: select.selectedOptions[0].dataset.label,
      runs: [],
    }));
    const ask = ({ version }) => asked(this.tried.model, version, inputs, this.tried.outputs);
    this.say("Running …");
    // Once before it counts: the first request of a variant loads it.
    for (const side of sides) await ask(side);
    for (let turn = 0; turn < times; turn += 1) {
      if (times > 1) this.say(`Run ${turn + 1} of ${times}`);
      for (const side of turn % 2 ? [...sides].reverse() : sides) side.runs.push(await ask(side));
    }
    this.say("");
    this.answers.show(sides, this.truth);
  }

  setBusy(is) {
    this.busy = is;
    this.form.toggleAttribute("aria-busy", is);
    for (const button of this.form.querySelectorAll("button")) button.setAttribute("aria-disabled", is);
  }

  say(text) {
    this.form.querySelector("[data-status]").textContent = text;
  }

  problem(text) {
    this.form.querySelector("[data-problem]").textContent = text;
  }
}

// One input: `values` in row-major order, of the extents that its fields of dynamic axes say.
class Input {
  constructor(spec, place) {
    this.spec = spec;
    this.place = place;
    this.values = null;
    this.text = place.querySelector("[data-text]");
    this.text.addEventListener("input", () => this.typed());
    for (const axis of place.querySelectorAll("[data-axis]")) axis.addEventListener("change", () => this.resizedTo());
    if (spec.planes) this.wireImage();
  }

  get shape() {
    return this.spec.shape.map((extent, axis) => (extent >= 0 ? extent : Number(this.axis(axis).value)));
  }

  axis(number) {
    return this.place.querySelector(`[data-axis="${number}"]`);
  }

  tensor() {
    const { name, datatype } = this.spec;
    const count = this.shape.reduce((one, other) => one * other, 1);
    if (this.values === null) throw new Error(`Give ${name} a value first: an image, numbers, or a sample.`);
    if (this.values.length !== count) {
      throw new Error(`${name} takes ${count.toLocaleString("en")} values, ${this.shape.join(" × ")}; these are ${this.values.length.toLocaleString("en")}.`);
    }
    try {
      return { name, datatype, shape: this.shape, content: encoded(datatype, this.values) };
    } catch (error) {
      throw new Error(`${name}: ${error.message}.`);
    }
  }

  // `extents` where these are of the values, and not of the fields.
  set(values, extents) {
    extents?.forEach((extent, axis) => {
      if (this.spec.shape[axis] < 0) this.axis(axis).value = extent;
    });
    this.values = values;
    this.complain("");
    const whole = values.length <= SHOWN;
    this.text.value = whole ? JSON.stringify(values.map((value) => (typeof value === "number" ? Number(value.toPrecision(7)) : value))) : "";
    this.text.placeholder = whole ? "" : `${values.length.toLocaleString("en")} values; paste others to replace them`;
  }

  typed() {
    this.values = null;
    this.forgetImage();
    if (!this.text.value.trim()) return this.complain("");
    let found;
    try {
      found = JSON.parse(this.text.value);
    } catch (error) {
      return this.complain(`This is no JSON: ${error.message}`);
    }
    const extents = extentsOf(found);
    if (extents.length === this.spec.shape.length) {
      extents.forEach((extent, axis) => this.spec.shape[axis] < 0 && (this.axis(axis).value = extent));
    }
    this.values = [found].flat(Infinity);
    return this.complain("");
  }

  fill(how) {
    this.forgetImage();
    const count = this.shape.reduce((one, other) => one * other, 1);
    this.set(Array.from({ length: count }, () => filling(this.spec, how)));
  }

  take({ datatype, shape, data }) {
    this.forgetImage();
    if (datatype !== this.spec.datatype) throw new Error(`${this.spec.name} takes ${this.spec.datatype}, and the sample is ${datatype}`);
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    this.set(this.rows([...decoded(datatype, bytes.buffer)]), [1, ...shape.slice(1)]);
  }

  // As many times as the batch wants it.
  rows(values) {
    const rows = this.spec.shape[0] > 0 ? this.spec.shape[0] : 1;
    if (this.spec.shape[0] < 0) this.axis(0).value = 1;
    return Array.from({ length: rows }, () => values).flat();
  }

  resizedTo() {
    if (this.image) this.apply();
  }

  complain(text) {
    this.place.querySelector("[data-input-problem]").textContent = text;
    this.text.toggleAttribute("aria-invalid", Boolean(text));
  }

  // ---- images ----

  wireImage() {
    const { spec, place } = this;
    this.planesFirst = spec.planes === 1;
    const field = place.querySelector("[data-image]");
    field.addEventListener("change", () => field.files.length && this.load(field.files[0]));
    const preset = place.querySelector("[data-preset]");
    if (preset) {
      preset.value = guessed(spec);
      this.preset(preset.value);
      preset.addEventListener("change", () => this.preset(preset.value) && this.image && this.apply());
      for (const name of ["scale", "mean", "std"]) {
        place.querySelector(`[data-${name}]`).addEventListener("input", () => {
          preset.value = "own";
          if (this.image) this.apply();
        });
      }
    }
    for (const name of ["resize", "color"]) {
      place.querySelector(`[data-${name}]`)?.addEventListener("change", () => this.image && this.apply());
    }
  }

  get channels() {
    return this.spec.shape[this.spec.planes];
  }

  preset(name) {
    if (!(name in PRESETS)) return true;
    const [scale, mean, std] = PRESETS[name];
    const each = (values) => (values.length ? Array.from({ length: this.channels }, (_, at) => values[at] ?? values[0]).join(", ") : "");
    this.place.querySelector("[data-scale]").value = scale;
    this.place.querySelector("[data-mean]").value = each(mean);
    this.place.querySelector("[data-std]").value = each(std);
    return true;
  }

  async load(file) {
    try {
      this.image = await pixelsOf(file);
    } catch {
      this.forgetImage();
      return this.complain(`${file.name} is no image that this browser reads.`);
    }
    this.name = file.name;
    this.apply();
    return undefined;
  }

  apply() {
    const { shape } = this;
    const [height, width] = this.planesFirst ? [shape[2], shape[3]] : [shape[1], shape[2]];
    try {
      const how = this.settings();
      const source = this.channels === 1 ? grey(this.image) : this.image;
      const image = resized(source, width, height, how.resize);
      this.set(this.rows(normalised(image, { ...how, planesFirst: this.planesFirst })));
      this.showSeen(image);
    } catch (error) {
      this.values = null;
      this.complain(error.message);
    }
  }

  settings() {
    const read = (name) => this.place.querySelector(`[data-${name}]`)?.value.trim() ?? "";
    const plain = this.spec.datatype === "UINT8";
    return {
      scale: plain ? null : fraction(read("scale")),
      mean: plain ? [] : numbers("mean", read("mean"), this.channels),
      std: plain ? [] : numbers("std", read("std"), this.channels),
      resize: read("resize"),
      reversed: read("color") === "BGR",
    };
  }

  showSeen({ width, height, bytes, channels }) {
    const canvas = this.place.querySelector("[data-canvas]");
    [canvas.width, canvas.height] = [width, height];
    const data = new ImageData(width, height);
    for (let at = 0; at < width * height; at += 1) {
      for (let channel = 0; channel < 3; channel += 1) data.data[4 * at + channel] = bytes[at * channels + (channels === 1 ? 0 : channel)];
      data.data[4 * at + 3] = 255;
    }
    canvas.getContext("2d").putImageData(data, 0, 0);
    canvas.setAttribute("aria-label", `${this.name}, as the model gets it`);
    this.place.querySelector("[data-seen-text]").textContent = `${width} × ${height}, from ${this.image.width} × ${this.image.height}`;
    this.place.querySelector("[data-seen]").hidden = false;
  }

  forgetImage() {
    this.image = null;
    const seen = this.place.querySelector("[data-seen]");
    if (!seen) return;
    seen.hidden = true;
    this.place.querySelector("[data-image]").value = "";
    this.place.querySelector("[data-chosen]").textContent = "";
  }
}

function extentsOf(value) {
  return Array.isArray(value) ? [value.length, ...extentsOf(value[0])] : [];
}

// Numbers that most models take: masks of ones, types of zeros, tokens of small numbers.
function filling({ name, datatype }, how) {
  if (datatype === "BYTES") return "";
  if (how === "zeros") return 0;
  if (datatype === "BOOL") return Math.random() < 0.5 ? 1 : 0;
  if (!isFloat(datatype)) return /mask/i.test(name) ? 1 : /type/i.test(name) ? 0 : Math.floor(Math.random() * 100);
  // Normal, by Box and Muller.
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function guessed({ shape, planes }) {
  const side = shape[planes === 1 ? 2 : 1];
  if (shape[planes] === 1) return side === 28 ? "mnist" : "unit";
  return side === 32 ? "cifar" : side < 0 || side >= 160 ? "imagenet" : "unit";
}

function fraction(text) {
  const [over, under = "1"] = text.split("/").map((part) => part.trim());
  const value = Number(over) / Number(under);
  if (!text || !Number.isFinite(value)) throw new Error(`The scale is a number, such as 1/255, not “${text}”.`);
  return value;
}

function numbers(name, text, channels) {
  const values = text.split(/[\s,;]+/).filter(Boolean).map(Number);
  if (values.length && (values.length !== channels || !values.every(Number.isFinite) || (name === "std" && values.includes(0)))) {
    throw new Error(`${name} has ${channels} number${channels > 1 ? "s" : ""}, one for each channel, or none.`);
  }
  return values;
}
