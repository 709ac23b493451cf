// From CLS to classes: the logit lens, logits, softmax.
"use strict";

const LINES = 5; // classes in the chart of the lens
const LENS_EDGES = { left: 44, right: 12 };

function viewOutput() {
  if (!CLASSES) return { nodes: [para("no_classes")], draw() {} };
  const after = slider(t("lens_slider"), {
    min: 0,
    max: model.layers,
    get: () => app.after,
    set: (value) => update({ after: value }),
    say: afterName,
  });
  const chart = lensChart();
  const bars = h("div", { class: "lens-bars" });
  const sums = h("div", { class: "fill" });
  const heading = h("h3", {});
  return {
    nodes: [
      para("output_intro", { width: model.width, classes: CLASSES }),
      h("h3", {}, t("lens")),
      para("lens_intro"),
      after,
      h(
        "div",
        { class: "side-by-side lens" },
        h("div", {}, chart, para("lens_axis", {}, { class: "note" })),
        bars,
      ),
      heading,
      sums,
    ],
    draw() {
      heading.textContent = t("logits_softmax_after", { after: afterName(app.after) });
      after.redraw();
      chart.redraw();
      const scores = app.now.scores(app.after);
      const order = ranking(scores).slice(0, 6);
      fill(
        bars,
        h(
          "p",
          { class: "lens-title" },
          rich("lens_at", {
            after: afterName(app.after),
            label: label(order[0]),
            score: percent(scores[order[0]]),
          }),
        ),
        ...order.map((c) => barRow(label(c), scores[c], null, chosenClasses().indexOf(c))),
      );
      fill(sums, ...softmaxSums());
    },
  };
}

/** Not a sigmoid, and not the logits themselves. */
const isSoftmax = () =>
  CLASSES > 1 &&
  (given.live || softmax(app.now.logits()).every((share, c) => Math.abs(share - app.now.scores()[c]) < 1e-4));

const afterName = (after) => (after ? t("after_layer", { layer: after - 1 }) : t("after_embeddings"));

/** The classes that are most probable at the end, and those that led on the way. */
function chosenClasses() {
  const at = numbered(model.layers + 1).map(([layer]) => ranking(app.now.scores(layer))[0]);
  return [...new Set([...ranking(app.now.scores()).slice(0, 3), ...at.reverse()])].slice(0, LINES);
}

/** Probability of some classes, layer by layer. */
function lensChart() {
  return surface(
    (context, width, height) => {
      const { left, right } = LENS_EDGES;
      const bottom = 26;
      const x = (layer) => left + (layer / model.layers) * (width - left - right);
      const y = (share) => 10 + (1 - share) * (height - bottom - 14);
      context.font = "11.5px system-ui, sans-serif";
      context.lineWidth = 1;
      context.textAlign = "right";
      context.textBaseline = "middle";
      for (const share of [0, 0.25, 0.5, 0.75, 1]) {
        context.strokeStyle = colour("line");
        line(context, left, y(share), width - right, y(share));
        context.fillStyle = colour("soft");
        context.fillText(percent(share, 0), left - 5, y(share));
      }
      context.textAlign = "center";
      for (let layer = 0; layer <= model.layers; layer++)
        context.fillText(layer ? String(layer - 1) : "e", x(layer), height - 10);
      context.fillStyle = colour("line");
      context.fillRect(x(app.after) - 5, 10, 10, height - bottom - 14);
      chosenClasses().forEach((c, i) => {
        context.strokeStyle = colour(`line-${i}`);
        context.lineWidth = i ? 2 : 3.5;
        context.beginPath();
        for (let layer = 0; layer <= model.layers; layer++)
          context.lineTo(x(layer), y(app.now.scores(layer)[c]));
        context.stroke();
        context.fillStyle = context.strokeStyle;
        context.beginPath();
        context.arc(x(app.after), y(app.now.scores(app.after)[c]), 4.5, 0, 7);
        context.fill();
      });
    },
    {
      class: "plot",
      "aria-label": t("lens_chart"),
      onpointerdown: (event) => moveLens(event),
      onpointermove: (event) => event.buttons && moveLens(event),
    },
  );
}
function moveLens(event) {
  const { left, right } = LENS_EDGES;
  const share = (event.offsetX - left) / (event.target.clientWidth - left - right);
  update({ after: Math.min(Math.max(Math.round(share * model.layers), 0), model.layers) });
}

/** Where each number's bar begins and how long it is, as parts of the width: all begin at the same 0. */
function barsAround0(values) {
  const low = Math.max(0, -Math.min(...values));
  const width = low + Math.max(0, ...values) || 1;
  return (i) => ({ from: (low + Math.min(values[i], 0)) / width, share: Math.abs(values[i]) / width });
}

/** Logits of the likeliest classes, and softmax in numbers. */
function softmaxSums() {
  const logits = app.now.logits(app.after);
  const scores = app.now.scores(app.after);
  const order = ranking(scores).slice(0, 10);
  const temperature = app.changes.outputTemperature;
  const exps = Array.from(logits, (z) => Math.exp(z / temperature));
  const sum = exps.reduce((a, b) => a + b, 0);
  const c = order.includes(app.cls) ? app.cls : order[0];
  const other = !isSoftmax();
  const shown = barsAround0(logits);
  const rows = order.map((k) =>
    h(
      "tr",
      { class: k === c ? "chosen" : "", onpointerenter: () => k !== app.cls && update({ cls: k }) },
      h("th", { scope: "row" }, h("button", { type: "button", onclick: () => update({ cls: k }) }, label(k))),
      h("td", {}, number(logits[k], 3)),
      h(
        "td",
        { class: "bar-cell" },
        h("span", {
          class: `bar ${logits[k] < 0 ? "below" : "above"}`,
          style: `--share:${shown(k).share};--from:${shown(k).from}`,
        }),
      ),
      h("td", {}, other ? "" : amount(exps[k])),
      h("td", {}, percent(scores[k], 2)),
    ),
  );
  const head = h(
    "tr",
    {},
    ["class", "logit", null, temperature === 1 ? "exp" : "exp_t", "probability"].map((key) =>
      key ? h("th", { scope: "col" }, t(`column_${key}`)) : h("td", {}),
    ),
  );
  return [
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": t("logits_softmax") },
      h("table", { class: "numbers wide" }, h("thead", {}, head), h("tbody", {}, rows)),
    ),
    other
      ? para("other_scores", {}, { class: "note" })
      : formula(
          temperature === 1
            ? "p({label}) = eᶻ / Σ eᶻ = {top} / {bottom} = **{share}**"
            : "p({label}) = exp(z/T) / Σ exp(z/T) = {top} / {bottom} = **{share}**",
          { label: label(c), top: amount(exps[c]), bottom: amount(sum), share: percent(scores[c], 2) },
        ),
    para("softmax_output_note", { classes: CLASSES }, { class: "note" }),
  ];
}

/** A class with its probability now, and before any change. */
function barRow(name, now, before, line = -1) {
  const changed = before !== null && Math.abs(now - before) >= 0.0005;
  return h(
    "div",
    { class: "bar-row" },
    h("span", { class: "bar-label", style: line < 0 ? "" : `color:var(--line-${line})`, title: name }, name),
    h(
      "span",
      { class: "bar-track" },
      before === null || !isChanged() ? null : h("span", { class: "bar-before", style: `--share:${before}` }),
      h("span", {
        class: "bar",
        style: `--share:${now}${line < 0 ? "" : `;background:var(--line-${line})`}`,
      }),
    ),
    h("span", { class: "bar-value" }, percent(now)),
    before === null ? null : h("span", { class: "bar-was" }, changed ? percent(before) : ""),
  );
}
