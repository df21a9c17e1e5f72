// Tensors of the Open Inference Protocol, as bytes: exact for all types, and NaN and infinity too.
const ARRAYS = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP16: Uint16Array,
  FP32: Float32Array,
  FP64: Float64Array,
};

// Numbers (texts for BYTES) as what is sent of them. Throws what is wrong, in words.
export function encoded(datatype, values) {
  if (datatype === "BYTES") return values.map(String);
  const kind = ARRAYS[datatype];
  const wrong = values.findIndex((value) => typeof value !== "number" && typeof value !== "boolean");
  if (wrong >= 0) throw new Error(`value ${wrong} is ${JSON.stringify(values[wrong])}, and no ${datatype}`);
  if (datatype === "FP16") return Uint16Array.from(values, halfOf);
  if (kind === BigInt64Array || kind === BigUint64Array) return kind.from(values, (value) => BigInt(Math.trunc(Number(value))));
  return kind.from(values, Number);
}

// Bytes as numbers; 64-bit integers as the nearest ones that JavaScript has.
export function decoded(datatype, buffer) {
  const array = new ARRAYS[datatype](buffer);
  if (datatype === "FP16") return Float64Array.from(array, halfFrom);
  return Float64Array.from(array, Number);
}

export const isFloat = (datatype) => datatype.startsWith("FP");

const single = new Float32Array(1);
const bits = new Uint32Array(single.buffer);

function halfOf(value) {
  single[0] = Number(value);
  const sign = (bits[0] >>> 16) & 0x8000;
  const size = Math.abs(single[0]);
  if (Number.isNaN(size)) return sign | 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | roundEven(size * 2 ** 24);
  const exponent = ((bits[0] >>> 23) & 0xff) - 127;
  return sign | (((exponent + 15) << 10) + roundEven((size / 2 ** exponent - 1) * 1024));
}

function roundEven(value) {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2) ? down + 1 : down;
}

function halfFrom(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const part = half & 0x3ff;
  if (exponent === 0) return sign * part * 2 ** -24;
  if (exponent === 31) return part ? NaN : sign * Infinity;
  return sign * (1 + part / 1024) * 2 ** (exponent - 15);
}

// What one variant answers: outputs, and how long that took. Throws what the server says is wrong.
export async function asked(model, version, inputs, outputs) {
  const pieces = [];
  const message = {
    inputs: inputs.map(({ name, datatype, shape, content }) => {
      if (datatype === "BYTES") return { name, datatype, shape, data: content };
      pieces.push(content);
      return { name, datatype, shape, parameters: { binary_data_size: content.byteLength } };
    }),
    outputs: outputs.map(({ name, datatype }) => ({ name, parameters: { binary_data: datatype !== "BYTES" } })),
  };
  const header = new TextEncoder().encode(JSON.stringify(message));
  const url = `/v2/models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}/infer`;
  const headers = { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": String(header.length) };
  const body = new Blob([header, ...pieces]);
  const begun = performance.now();
  const response = await fetch(url, { method: "POST", body, headers });
  const content = await response.arrayBuffer();
  const roundMs = performance.now() - begun;
  if (!response.ok) throw new Error(complaint(content) ?? `the server answered ${response.status}`);
  return {
    variant: response.headers.get("X-Model-Variant"),
    roundMs,
    computeMs: computed(response.headers.get("Server-Timing")),
    outputs: read(content, response.headers.get("Inference-Header-Content-Length")),
  };
}

function complaint(content) {
  try {
    const said = JSON.parse(new TextDecoder().decode(content));
    return said.error ?? said.detail;
  } catch {
    return undefined;
  }
}

function computed(timing) {
  const found = /compute;dur=([\d.]+)/.exec(timing ?? "");
  return found ? Number(found[1]) : null;
}

function read(content, headerLength) {
  const end = headerLength === null ? content.byteLength : Number(headerLength);
  const message = JSON.parse(new TextDecoder().decode(content.slice(0, end)));
  let place = end;
  return message.outputs.map(({ name, datatype, shape, data, parameters }) => {
    const size = parameters?.binary_data_size;
    if (size === undefined) return { name, datatype, shape, values: data };
    const values = decoded(datatype, content.slice(place, place + size));
    place += size;
    return { name, datatype, shape, values };
  });
}
