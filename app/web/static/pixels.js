// An image as a model takes it, by the rules by which datasets of images are made (docs/datasets.md): stored pixels,
// bilinear with as wide a filter as what is made smaller needs, bytes between the passes; then (pixel · scale - mean) / std.

// {width, height, bytes}: red, green and blue of each pixel.
export async function pixelsOf(file) {
  const image = await bitmapOf(file);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  const bytes = new Uint8Array(image.width * image.height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    bytes[to++] = data[from];
    bytes[to++] = data[from + 1];
    bytes[to++] = data[from + 2];
  }
  return { width: image.width, height: image.height, bytes, channels: 3 };
}

// As stored: neither turned as the camera noted nor with other colours, where the browser lets us.
async function bitmapOf(file) {
  const asStored = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  try {
    return await createImageBitmap(file, { ...asStored, imageOrientation: "none" });
  } catch {
    return createImageBitmap(file, asStored);
  }
}

export function grey({ width, height, bytes }) {
  const made = new Uint8Array(width * height);
  for (let at = 0; at < made.length; at += 1) {
    made[at] = (bytes[3 * at] * 19595 + bytes[3 * at + 1] * 38470 + bytes[3 * at + 2] * 7471 + 0x8000) >> 16;
  }
  return { width, height, bytes: made, channels: 1 };
}

export function resized(image, width, height, how) {
  if (image.width === width && image.height === height) return image;
  let box = [0, 0, image.width, image.height];
  if (how === "crop") {
    const factor = Math.min(image.width / width, image.height / height);
    const [left, top] = [(image.width - width * factor) / 2, (image.height - height * factor) / 2];
    box = [left, top, left + width * factor, top + height * factor];
  }
  return vertically(horizontally(image, width, box[0], box[2]), height, box[1], box[3]);
}

// Of each place along an axis, where what it is made of begins, and the weights of that.
function taps(size, wanted, from, to) {
  const scale = (to - from) / wanted;
  const reach = Math.max(scale, 1);
  return Array.from({ length: wanted }, (_, place) => {
    const middle = from + (place + 0.5) * scale;
    const first = Math.max(0, Math.floor(middle - reach + 0.5));
    const last = Math.min(size, Math.floor(middle + reach + 0.5));
    const weights = [];
    for (let at = first; at < last; at += 1) weights.push(Math.max(0, 1 - Math.abs((at - middle + 0.5) / reach)));
    const sum = weights.reduce((one, other) => one + other, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

const asByte = (value) => Math.max(0, Math.min(255, Math.round(value)));

function horizontally({ width, height, bytes, channels }, wanted, from, to) {
  const made = new Uint8Array(wanted * height * channels);
  taps(width, wanted, from, to).forEach(({ first, weights }, column) => {
    for (let row = 0; row < height; row += 1) {
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = 0;
        let at = (row * width + first) * channels + channel;
        for (const weight of weights) {
          sum += weight * bytes[at];
          at += channels;
        }
        made[(row * wanted + column) * channels + channel] = asByte(sum);
      }
    }
  });
  return { width: wanted, height, bytes: made, channels };
}

function vertically({ width, height, bytes, channels }, wanted, from, to) {
  const line = width * channels;
  const made = new Uint8Array(line * wanted);
  taps(height, wanted, from, to).forEach(({ first, weights }, row) => {
    for (let place = 0; place < line; place += 1) {
      let sum = 0;
      let at = first * line + place;
      for (const weight of weights) {
        sum += weight * bytes[at];
        at += line;
      }
      made[row * line + place] = asByte(sum);
    }
  });
  return { width, height: wanted, bytes: made, channels };
}

// Values in the order of the layout. `mean` and `std` have one value for each channel, or none.
export function normalised({ width, height, bytes, channels }, { scale, mean, std, reversed, planesFirst }) {
  const area = width * height;
  const values = new Array(area * channels);
  for (let channel = 0; channel < channels; channel += 1) {
    const source = reversed ? channels - 1 - channel : channel;
    for (let at = 0; at < area; at += 1) {
      let value = scale === null ? bytes[at * channels + source] : Math.fround(bytes[at * channels + source] * Math.fround(scale));
      if (mean.length) value = Math.fround(value - Math.fround(mean[channel]));
      if (std.length) value = Math.fround(value / Math.fround(std[channel]));
      values[planesFirst ? channel * area + at : at * channels + channel] = value;
    }
  }
  return values;
}
