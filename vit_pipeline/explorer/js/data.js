// What the page has been given, unpacked; the model's thread; and runs: what happened to one image, live or
// recorded, asked the same questions.
"use strict";

const given = JSON.parse(document.getElementById("data").textContent);
const model = given.model;
const PATCHES = model.grid[0] * model.grid[1];
const TOKENS = PATCHES + 1;
const CLASSES = model.labels.length;
/** Width to height of the area that the patches cover. */
const RATIO = `${model.grid[1] * model.patch[1]}/${model.grid[0] * model.patch[0]}`;

/** An array that record.py has packed: base64, inflated, the bytes of each number put together again. */
async function unpack({ type, shape, bytes }) {
  const deflated = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = shape.reduce((a, b) => a * b, 1);
  const size = planes.length / count;
  const joined = new Uint8Array(planes.length);
  for (let i = 0; i < count; i++) for (let b = 0; b < size; b++) joined[i * size + b] = planes[b * count + i];
  if (type === "uint8") return joined;
  return type === "float16" ? halfToFloat(new Uint16Array(joined.buffer)) : new Float32Array(joined.buffer);
}

/** Asks the model's thread. Where the page may have none, as in some notebooks, the same code runs here. */
function startEngine() {
  const waiting = new Map();
  let worker;
  let here;
  let last = 0;
  const ask = (id) => {
    const { call, args, resolve, reject } = waiting.get(id);
    if (!here) return worker.postMessage({ id, call, given: args });
    waiting.delete(id);
    try {
      resolve(here[call](...args));
    } catch (error) {
      reject(error);
    }
  };
  const runHere = () => {
    here = makeEngine();
    [...waiting.keys()].forEach(ask);
  };
  try {
    const code = document.getElementById("model-code").textContent;
    worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    worker.onerror = runHere;
    worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(result);
    };
  } catch {
    runHere();
  }
  return (call, ...args) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { call, args, resolve, reject });
      ask(last);
    });
}

const length = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
const slice = (array, i, width) => array.subarray(i * width, (i + 1) * width);

/** A forward pass of the page. `temperature` is the output's; attention's is in the pass. */
function liveRun(trace, temperature = 1) {
  const { width, layers } = model;
  return {
    ...trace,
    /** What token i attends to, (N); null where the layer is dropped. */
    row: (l, h, i) => trace.steps[l] && slice(trace.steps[l].attentions, h * TOKENS + i, TOKENS),
    logits: (after = layers) => trace.lens[after],
    scores: (after = layers) => softmax(trace.lens[after], temperature),
    placed: trace.states[0],
    cls: (after) => slice(trace.states[after], 0, width),
    /** Lengths of vectors of token i: before layer l, attention's part, between, the MLP's part, after. */
    norms(l, i) {
      const step = trace.steps[l];
      const at = (array) => length(slice(array, i, width));
      const before = at(trace.states[l]);
      const after = at(trace.states[l + 1]);
      return step
        ? [before, at(step.fromAttention), at(step.middle), at(step.fromMlp), after]
        : [before, 0, before, 0, after];
    },
  };
}

/** What Python saw the model do. */
async function recordedRun() {
  const names = ["attentions", "units", "norms", "cls", "embedded", "placed", "lens", "scores"];
  const arrays = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, given[name] ? await unpack(given[name]) : null])),
  );
  const { width, heads, layers } = model;
  return {
    embedded: arrays.embedded,
    placed: arrays.placed,
    row(l, h, i) {
      const at = (l * heads + h) * TOKENS + i;
      return Float32Array.from(slice(arrays.attentions, at, TOKENS), (level) => level * arrays.units[at]);
    },
    /** How far a number of that row may be off. */
    doubt: (l, h, i) => arrays.units[(l * heads + h) * TOKENS + i] / 2,
    largestDoubt: arrays.units.reduce((a, b) => Math.max(a, b), 0) / 2,
    logits: (after = layers) => arrays.lens && slice(arrays.lens, after, CLASSES),
    scores: (after = layers) => arrays.scores && slice(arrays.scores, after, CLASSES),
    cls: (after) => slice(arrays.cls, after, width),
    norms: (l, i) => [0, 1, 2, 3, 4].map((kind) => arrays.norms[(kind * layers + l) * TOKENS + i]),
  };
}

/** Places in descending order of their values. */
const ranking = (values) => Array.from(values, (_, i) => i).sort((a, b) => values[b] - values[a]);

/** Of the patches' position embeddings: where the most similar other place is. */
function positionStatistics(similarity) {
  const [rows, cols] = model.grid;
  const count = { mirrored: 0, neighbour: 0 };
  const best = [];
  for (let i = 0; i < PATCHES; i++) {
    const others = ranking(slice(similarity, i, PATCHES)).filter((j) => j !== i);
    const j = others[0];
    const [row, col, toRow, toCol] = [Math.floor(i / cols), i % cols, Math.floor(j / cols), j % cols];
    count.mirrored += toRow === row && toCol === cols - 1 - col;
    count.neighbour += Math.max(Math.abs(toRow - row), Math.abs(toCol - col)) === 1;
    best.push(j);
  }
  return { ...count, best, rows, cols };
}
