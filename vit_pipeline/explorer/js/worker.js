// The model in a thread of its own, so that the page never stands still: each message gets an answer.
"use strict";

/** What the page may ask for. `load` once, then `forward` and `resize`. */
function makeEngine() {
  let model;
  let weights;
  return {
    load(given, tensors, all) {
      model = given;
      let at = 0;
      weights = Object.fromEntries(
        tensors.map(([name, shape]) => {
          const size = shape.reduce((a, b) => a * b, 1);
          return [name, all.subarray(at, (at += size))];
        }),
      );
    },
    forward: (bytes, changes) => forward(model, weights, bytes, changes),
    logits: (bytes, changes) => forward(model, weights, bytes, changes).lens[model.layers],
    resize: (bytes, height, width) => resizeImage(bytes, height, width, model.resize),
    /** Some weights, for the formulas. */
    weights: (names) => Object.fromEntries(names.map((name) => [name, weights[name]?.slice()])),
  };
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  const engine = makeEngine();
  self.onmessage = ({ data: { id, call, given } }) => {
    try {
      self.postMessage({ id, result: engine[call](...given) });
    } catch (error) {
      self.postMessage({ id, error: String(error) });
    }
  };
}
