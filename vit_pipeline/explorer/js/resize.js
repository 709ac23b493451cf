// Pillow's way to make an image smaller or larger, with its whole numbers, so that a dropped image becomes
// the same pixels as in Python. It is described in Pillow's src/libImaging/Resample.c; this is not its code.
"use strict";

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** Pillow's filters by its numbers: how far each reaches, and its weight at x ≥ 0. 0 is "nearest". */
const FILTERS = {
  1: { reach: 3, weight: (x) => sinc(x) * sinc(x / 3) }, // Lanczos
  2: { reach: 1, weight: (x) => 1 - x }, // bilinear
  // bicubic
  3: { reach: 2, weight: (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2) },
  4: { reach: 0.5, weight: () => 1 }, // box
  5: { reach: 1, weight: (x) => sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) }, // Hamming
};
const ONE = 2 ** 22; // weights are whole numbers of this

/** For each of `to` pixels: the first of `from` pixels that it is made of, and their weights. */
function resampling(from, to, filter) {
  const { reach, weight } = FILTERS[filter];
  const scale = from / to;
  const wide = Math.max(scale, 1);
  return Array.from({ length: to }, (_, pixel) => {
    const centre = (pixel + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - reach * wide + 0.5), 0);
    const last = Math.min(Math.trunc(centre + reach * wide + 0.5), from);
    const weights = Array.from({ length: last - first }, (_, i) => {
      const x = Math.abs((first + i - centre + 0.5) / wide);
      return x < reach || (filter === 4 && x <= reach) ? weight(x) : 0;
    });
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((value) => Math.round((value / sum) * ONE)) };
  });
}

/** Bytes (height, width, 3) → (height, to, 3). */
function resizeRows(bytes, height, width, to, filter) {
  if (width === to) return bytes;
  const made = new Uint8ClampedArray(height * to * 3);
  const plan = resampling(width, to, filter);
  for (let y = 0; y < height; y++)
    plan.forEach(({ first, weights }, x) => {
      for (let colour = 0; colour < 3; colour++) {
        let sum = ONE / 2;
        let at = (y * width + first) * 3 + colour;
        for (const weight of weights) ((sum += bytes[at] * weight), (at += 3));
        made[(y * to + x) * 3 + colour] = Math.floor(sum / ONE);
      }
    });
  return made;
}

/** Rows become columns: (height, width, 3) → (width, height, 3). */
function transpose(bytes, height, width) {
  const turned = new Uint8ClampedArray(bytes.length);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++) turned[(x * height + y) * 3 + c] = bytes[(y * width + x) * 3 + c];
  return turned;
}

/** Bytes (height, width, 3) → (to, width, 3). */
function resizeColumns(bytes, height, width, to, filter) {
  if (height === to) return bytes;
  return transpose(resizeRows(transpose(bytes, height, width), width, height, to, filter), width, to);
}

/** An image of RGB bytes → the model's size, as the checkpoint's processor and this Pillow do it. */
function resizeImage(bytes, height, width, { shortest, size, filter, crop, evenCrop, tallFirst }) {
  let [toHeight, toWidth] = size;
  if (shortest) {
    const long = Math.trunc((shortest * Math.max(height, width)) / Math.min(height, width));
    [toHeight, toWidth] = width <= height ? [long, shortest] : [shortest, long];
  }
  let image = bytes;
  if (filter === 0) image = nearest(bytes, height, width, toHeight, toWidth);
  else if (tallFirst && height > toHeight && height - toHeight > 2 * (width - toWidth)) {
    image = resizeColumns(image, height, width, toHeight, filter);
    image = resizeRows(image, toHeight, width, toWidth, filter);
  } else {
    image = resizeRows(image, height, width, toWidth, filter);
    image = resizeColumns(image, height, toWidth, toHeight, filter);
  }
  if (!crop) return image;
  const start = (length, part) => {
    const half = (length - part) / 2; // torchvision rounds half a pixel to the even one, transformers down
    return evenCrop && half % 1 && Math.floor(half) % 2 ? Math.ceil(half) : Math.floor(half);
  };
  const top = start(toHeight, crop[0]);
  const left = start(toWidth, crop[1]);
  const part = new Uint8ClampedArray(crop[0] * crop[1] * 3);
  for (let y = 0; y < crop[0]; y++) {
    const from = ((top + y) * toWidth + left) * 3;
    part.set(image.subarray(from, from + crop[1] * 3), y * crop[1] * 3);
  }
  return part;
}

/** The pixel under the middle of each new one. Pillow adds up the steps, and so do we: it decides ties. */
function nearest(bytes, height, width, toHeight, toWidth) {
  const places = (from, to) => {
    const step = from / to;
    const found = [];
    for (let at = step / 2; found.length < to; at += step) found.push(Math.floor(at));
    return found;
  };
  const made = new Uint8ClampedArray(toHeight * toWidth * 3);
  const columns = places(width, toWidth);
  places(height, toHeight).forEach((fromY, y) =>
    columns.forEach((fromX, x) => {
      for (let c = 0; c < 3; c++) made[(y * toWidth + x) * 3 + c] = bytes[(fromY * width + fromX) * 3 + c];
    }),
  );
  return made;
}
