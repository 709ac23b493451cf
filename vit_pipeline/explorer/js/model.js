// The model: pixels in, every number of every step out. It knows of no page, and runs in a worker.
// Arrays are flat Float32Arrays, row by row: N tokens (CLS, then the patches row by row), D numbers a token,
// H heads of d numbers, L layers, C classes. Sums are taken in 64 bits, as JavaScript's numbers are.
"use strict";

/** 16-bit floats, as bits, → 32-bit floats. */
function halfToFloat(bits) {
  const table = new Float32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    if (exponent === 0) table[half] = sign * fraction * 2 ** -24;
    else if (exponent === 31) table[half] = fraction ? NaN : sign * Infinity;
    else table[half] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return Float32Array.from(bits, (half) => table[half]);
}

/** The error function to about 1e-15: a series whose terms are all positive, so that nothing cancels. */
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** x · Φ(x): GELU as it is defined, not its tanh approximation. */
const gelu = (x) => (x * (1 + erf(x / Math.SQRT2))) / 2;

/** Numbers → shares that sum to 1; sharper below temperature 1, flatter above. */
function softmax(values, temperature = 1) {
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const shares = Float64Array.from(values, (value) => Math.exp((value - largest) / temperature));
  const sum = shares.reduce((a, b) => a + b, 0);
  return Float32Array.from(shares, (share) => share / sum);
}

/**
 * x (rows, inputs) · weightᵀ + bias → (rows, outputs). Two rows and four outputs at a time, so that what has
 * been loaded is used more than once. At the end some are computed twice: simpler than a remainder.
 */
function linear(x, weight, bias, inputs) {
  const rows = x.length / inputs;
  const outputs = weight.length / inputs;
  const y = new Float32Array(rows * outputs);
  for (let o = 0; o < outputs; o += 4) {
    const o1 = Math.min(o + 1, outputs - 1);
    const o2 = Math.min(o + 2, outputs - 1);
    const o3 = Math.min(o + 3, outputs - 1);
    for (let r = 0; r < rows; r += 2) {
      const s = Math.min(r + 1, rows - 1);
      let [r0, r1, r2, r3, s0, s1, s2, s3] = [0, 0, 0, 0, 0, 0, 0, 0];
      for (let i = 0; i < inputs; i++) {
        const a = x[r * inputs + i];
        const b = x[s * inputs + i];
        let w = weight[o * inputs + i];
        r0 += a * w;
        s0 += b * w;
        w = weight[o1 * inputs + i];
        r1 += a * w;
        s1 += b * w;
        w = weight[o2 * inputs + i];
        r2 += a * w;
        s2 += b * w;
        w = weight[o3 * inputs + i];
        r3 += a * w;
        s3 += b * w;
      }
      y.set([r0, r1, r2, r3].slice(0, outputs - o), r * outputs + o);
      y.set([s0, s1, s2, s3].slice(0, outputs - o), s * outputs + o);
    }
  }
  if (bias) for (let i = 0; i < y.length; i++) y[i] += bias[i % outputs];
  return y;
}

/** Each row of x: minus its mean, by its standard deviation, times gamma, plus beta. */
function layerNorm(x, gamma, beta, eps) {
  const width = gamma.length;
  const y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    const { mean, deviation } = moments(x.subarray(start, start + width), eps);
    for (let i = 0; i < width; i++) y[start + i] = ((x[start + i] - mean) / deviation) * gamma[i] + beta[i];
  }
  return y;
}

function moments(row, eps) {
  let mean = 0;
  let variance = 0;
  for (const value of row) mean += value / row.length;
  for (const value of row) variance += (value - mean) ** 2 / row.length;
  return { mean, deviation: Math.sqrt(variance + eps) };
}

const add = (a, b) => a.map((value, i) => value + b[i]);

/** qᵢ·kⱼ/√d of token i with every token j in one head: (N). */
function attentionScores(q, k, i, head, d, width) {
  const tokens = k.length / width;
  const scores = new Float64Array(tokens);
  const qi = i * width + head * d;
  for (let j = 0; j < tokens; j++) {
    const kj = j * width + head * d;
    let sum = 0;
    for (let c = 0; c < d; c++) sum += q[qi + c] * k[kj + c];
    scores[j] = sum / Math.sqrt(d);
  }
  return scores;
}

/** softmax(QKᵀ/√d)·V of every head: attentions (H, N, N), and what they found, side by side, (N, H·d). */
function attend(q, k, v, heads, d, temperature, muted) {
  const width = heads * d;
  const tokens = q.length / width;
  const attentions = new Float32Array(heads * tokens * tokens);
  const mixed = new Float32Array(q.length);
  for (let head = 0; head < heads; head++)
    for (let i = 0; i < tokens; i++) {
      const row = softmax(attentionScores(q, k, i, head, d, width), temperature);
      attentions.set(row, (head * tokens + i) * tokens);
      if (muted(head)) continue; // its part stays 0
      for (let c = 0; c < d; c++) {
        let sum = 0;
        for (let j = 0; j < tokens; j++) sum += row[j] * v[j * width + head * d + c];
        mixed[i * width + head * d + c] = sum;
      }
    }
  return { attentions, mixed };
}

/** RGB bytes (H, W, 3) → one row a patch, in the order of the filters: colour, row, column. */
function cutIntoPatches(model, bytes) {
  const [rows, cols] = model.grid;
  const [height, width] = model.patch;
  const { scale, shift } = model.pixels;
  const pixels = new Float32Array(rows * cols * 3 * height * width);
  const imageWidth = model.imageWidth;
  let at = 0;
  for (let row = 0; row < rows; row++)
    for (let col = 0; col < cols; col++)
      for (let colour = 0; colour < 3; colour++)
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width; x++) {
            const byte = bytes[((row * height + y) * imageWidth + col * width + x) * 3 + colour];
            pixels[at++] = byte * scale[colour] + shift[colour];
          }
  return pixels;
}

/**
 * One image through the model.
 *
 * changes: { order: which patch stands in each place, gray: places that are gray, zeroPositions,
 * dropped: layers, muted: "layer,head", temperature: of attention }
 */
function forward(model, weights, bytes, changes = {}) {
  const { width, heads, headWidth, layers, eps } = model;
  const w = (name) => weights[name];
  const linearBy = (x, name, inputs) => linear(x, w(`${name}.weight`), w(`${name}.bias`), inputs);
  const norm = (x, name) => layerNorm(x, w(`${name}.weight`), w(`${name}.bias`), eps);
  const embeddings = "vit.embeddings.patch_embeddings.projection";

  const patches = changePatches(model, cutIntoPatches(model, bytes), changes); // (N - 1, 3·P·P)
  const count = model.grid[0] * model.grid[1];
  const embedded = linearBy(patches, embeddings, patches.length / count); // (N - 1, D)
  const positions = w("vit.embeddings.position_embeddings").slice(); // (N, D)
  if (changes.zeroPositions) positions.fill(0, width); // CLS's stays
  const tokens = new Float32Array(embedded.length + width);
  tokens.set(w("vit.embeddings.cls_token"));
  tokens.set(embedded, width);

  let x = add(tokens, positions); // (N, D)
  const states = [x];
  const steps = [];
  for (let l = 0; l < layers; l++) {
    if (changes.dropped?.includes(l)) {
      states.push(x);
      steps.push(null);
      continue;
    }
    const at = `vit.layers.${l}`;
    const normed = norm(x, `${at}.layernorm_before`);
    const project = (name) => linearBy(normed, `${at}.attention.${name}_proj`, width);
    const [q, k, v] = ["q", "k", "v"].map(project); // (N, H·d)
    const muted = (head) => Boolean(changes.muted?.includes(`${l},${head}`));
    const { attentions, mixed } = attend(q, k, v, heads, headWidth, changes.temperature ?? 1, muted);
    const fromAttention = linearBy(mixed, `${at}.attention.o_proj`, heads * headWidth); // (N, D)
    const middle = add(x, fromAttention);
    const normedAgain = norm(middle, `${at}.layernorm_after`);
    const wide = linearBy(normedAgain, `${at}.mlp.fc1`, width); // (N, 4D)
    const active = wide.map(gelu);
    const fromMlp = linearBy(active, `${at}.mlp.fc2`, model.mlpWidth); // (N, D)
    x = add(middle, fromMlp);
    states.push(x);
    steps.push({
      normed,
      q,
      k,
      v,
      attentions,
      mixed,
      fromAttention,
      middle,
      normedAgain,
      wide,
      active,
      fromMlp,
    });
  }
  // Only CLS goes on, (D); and to see what each layer would have said, the CLS of each
  const finals = states.map((state) => norm(state.subarray(0, width), "vit.layernorm"));
  const lens = finals.map((cls) => linearBy(cls, "classifier", width)); // L + 1 times (C), at last the logits
  return { patches, embedded, positions, states, steps, finals, lens };
}

/** Patches in another order, and some of them gray, which is what the model takes for the byte 128. */
function changePatches(model, patches, { order, gray = [] }) {
  const size = patches.length / (model.grid[0] * model.grid[1]);
  const { scale, shift } = model.pixels;
  const changed = patches.slice();
  order?.forEach((from, to) => changed.set(patches.subarray(from * size, (from + 1) * size), to * size));
  for (const place of gray)
    for (let i = 0; i < size; i++) {
      const colour = Math.floor(i / (size / 3));
      changed[place * size + i] = 128 * scale[colour] + shift[colour];
    }
  return changed;
}
