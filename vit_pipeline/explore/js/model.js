// The model: pixels in, every number of every step out. It knows of no page, and runs in a worker.
// Arrays are flat Float32Arrays, row by row: N tokens (CLS, then the patches row by row), D numbers a token,
// H heads of d numbers, L layers, C classes. Sums are taken in 64 bits, as JavaScript's numbers are.
"use strict";

/** 16-bit floats, as bits, → 32-bit floats. */
function halfToFloat(bits) {
  const table = new Float32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
    if (exponent === 0) table[half] = sign * fraction * 2 ** -24;
    else if (exponent === 31) table[half] = fraction ? NaN : sign * Infinity;
    else table[half] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return Float32Array.from(bits, (half) => table[half]);
}

/** The error function to about 1e-15: a series whose terms are all positive, so that nothing cancels. */
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
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
 * x (rows, inputs) · weightᵀ + bias → (rows, outputs). Two rows and four outputs at a time, so that a number that
 * has been loaded is used more than once. At the end a row or output may be computed twice: simpler than a remainder.
 */
function linear(x, weight, bias, inputs) {
  const rows = x.length / inputs, outputs = weight.length / inputs, y = new Float32Array(rows * outputs);
  for (let o = 0; o < outputs; o += 4) {
    const o1 = Math.min(o + 1, outputs - 1), o2 = Math.min(o + 2, outputs - 1), o3 = Math.min(o + 3, outputs - 1);
    const w0 = o * inputs, w1 = o1 * inputs, w2 = o2 * inputs, w3 = o3 * inputs;
    const b0 = bias ? bias[o] : 0, b1 = bias ? bias[o1] : 0, b2 = bias ? bias[o2] : 0, b3 = bias ? bias[o3] : 0;
    for (let r = 0; r < rows; r += 2) {
      const s = Math.min(r + 1, rows - 1), xr = r * inputs, xs = s * inputs;
      let r0 = b0, r1 = b1, r2 = b2, r3 = b3, s0 = b0, s1 = b1, s2 = b2, s3 = b3;
      for (let i = 0; i < inputs; i++) {
        const a = x[xr + i], b = x[xs + i];
        const u0 = weight[w0 + i], u1 = weight[w1 + i], u2 = weight[w2 + i], u3 = weight[w3 + i];
        r0 += a * u0; r1 += a * u1; r2 += a * u2; r3 += a * u3;
        s0 += b * u0; s1 += b * u1; s2 += b * u2; s3 += b * u3;
      }
      const yr = r * outputs, ys = s * outputs;
      y[yr + o] = r0; y[yr + o1] = r1; y[yr + o2] = r2; y[yr + o3] = r3;
      y[ys + o] = s0; y[ys + o1] = s1; y[ys + o2] = s2; y[ys + o3] = s3;
    }
  }
  return y;
}

/** Each row of x: minus its mean, by its standard deviation, times gamma, plus beta. */
function layerNorm(x, gamma, beta, eps) {
  const width = gamma.length, y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    const { mean, deviation } = moments(x.subarray(start, start + width), eps);
    for (let i = 0; i < width; i++) y[start + i] = ((x[start + i] - mean) / deviation) * gamma[i] + beta[i];
  }
  return y;
}

function moments(row, eps) {
  let mean = 0, variance = 0;
  for (const value of row) mean += value / row.length;
  for (const value of row) variance += (value - mean) ** 2 / row.length;
  return { mean, deviation: Math.sqrt(variance + eps) };
}

const add = (a, b) => a.map((value, i) => value + b[i]);

/** qᵢ·kⱼ/√d of token i with every token j in one head: (N). */
function attentionScores(q, k, i, head, d, width) {
  const tokens = k.length / width, scores = new Float64Array(tokens), qi = i * width + head * d;
  for (let j = 0; j < tokens; j++) {
    const kj = j * width + head * d;
    let sum = 0;
    for (let c = 0; c < d; c++) sum += q[qi + c] * k[kj + c];
    scores[j] = sum / Math.sqrt(d);
  }
  return scores;
}

/** softmax(QKᵀ/√d)·V of every head: attentions (H, N, N), and what the heads found, side by side, (N, H·d). */
function attend(q, k, v, heads, d, temperature, muted) {
  const width = heads * d, tokens = q.length / width;
  const attentions = new Float32Array(heads * tokens * tokens), mixed = new Float32Array(q.length);
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

/** RGB bytes (H, W, 3) → one row a patch, as the patch embedding's filters have them: colour, row, column. */
function cutIntoPatches(model, bytes) {
  const [rows, cols] = model.grid, [height, width] = model.patch, { scale, shift } = model.pixels;
  const pixels = new Float32Array(rows * cols * 3 * height * width), imageWidth = model.imageWidth;
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
 * changes: { order: which patch stands in each place, gray: places that are gray, zeroPositions, dropped: layers,
 * muted: "layer,head", temperature: of attention }
 */
function forward(model, weights, bytes, changes = {}) {
  const { width, heads, headWidth, layers, eps } = model;
  const w = (name) => weights[name];
  const linearBy = (x, name, inputs) => linear(x, w(`${name}.weight`), w(`${name}.bias`), inputs);
  const norm = (x, name) => layerNorm(x, w(`${name}.weight`), w(`${name}.bias`), eps);
  const embeddings = "vit.embeddings.patch_embeddings.projection";

  const patches = changePatches(model, cutIntoPatches(model, bytes), changes); // (N - 1, 3·P·P)
  const embedded = linearBy(patches, embeddings, patches.length / (model.grid[0] * model.grid[1])); // (N - 1, D)
  const positions = w("vit.embeddings.position_embeddings").slice(); // (N, D)
  if (changes.zeroPositions) positions.fill(0, width); // CLS's stays
  const tokens = new Float32Array(embedded.length + width);
  tokens.set(w("vit.embeddings.cls_token"));
  tokens.set(embedded, width);

  let x = add(tokens, positions); // (N, D)
  const states = [x], steps = [];
  for (let l = 0; l < layers; l++) {
    if (changes.dropped?.includes(l)) {
      states.push(x);
      steps.push(null);
      continue;
    }
    const at = `vit.layers.${l}`;
    const normed = norm(x, `${at}.layernorm_before`);
    const [q, k, v] = ["q", "k", "v"].map((name) => linearBy(normed, `${at}.attention.${name}_proj`, width)); // (N, H·d)
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
    steps.push({ normed, q, k, v, attentions, mixed, fromAttention, middle, normedAgain, wide, active, fromMlp });
  }
  const finals = states.map((state) => norm(state.subarray(0, width), "vit.layernorm")); // CLS alone goes on: (D)
  const lens = finals.map((cls) => linearBy(cls, "classifier", width)); // L + 1 times (C); the last are the logits
  return { patches, embedded, positions, states, steps, finals, lens };
}

/** Patches in another order, and some of them gray, which is what the model takes for the byte 128. */
function changePatches(model, patches, { order, gray = [] }) {
  const size = patches.length / (model.grid[0] * model.grid[1]), { scale, shift } = model.pixels;
  const changed = patches.slice();
  order?.forEach((from, to) => changed.set(patches.subarray(from * size, (from + 1) * size), to * size));
  for (const place of gray)
    for (let i = 0; i < size; i++) {
      const colour = Math.floor(i / (size / 3));
      changed[place * size + i] = 128 * scale[colour] + shift[colour];
    }
  return changed;
}
