// All layers at once, and one layer opened.
"use strict";

/** The layer × head grid of what one token attends to. */
function viewLayers() {
  const chooser = tokenChooser();
  const cells = [];
  const grid = h("div", {
    class: "heads",
    role: "group",
    "aria-label": t("heads_grid"),
    style: `--layers:${model.layers};--ratio:${RATIO}`,
  });
  grid.append(
    h("span", {}),
    ...numbered(model.layers).map(([l]) =>
      h(
        "button",
        { type: "button", class: "layer-name", onclick: () => update({ stage: "layer", layer: l }) },
        h("small", {}, t("layer_short")),
        ` ${l}`,
      ),
    ),
  );
  for (let head = 0; head < model.heads; head++) {
    grid.append(h("span", { class: "head-name" }, t("head_n", { head })));
    for (let l = 0; l < model.layers; l++) {
      const canvas = surface(
        (context, width, height) => {
          drawHead(context, { x: 0, y: 0, width, height }, l, head);
        },
        { "aria-hidden": "true", role: "presentation" },
      );
      const cell = h(
        "button",
        {
          type: "button",
          class: "cell",
          "aria-label": t("open_head", { layer: l, head }),
          onclick: () => update({ stage: "head", layer: l, head }),
        },
        canvas,
      );
      cell.redraw = canvas.redraw;
      cells.push(cell);
      grid.append(cell);
    }
  }
  const says = h("div", { class: "lens-line" });
  if (CLASSES) grid.append(says);
  const evidence = CLASSES && given.live ? evidenceMaps() : null;
  return {
    nodes: [
      para("layers_intro", { layers: model.layers, heads: model.heads }),
      h(
        "div",
        { class: "side-by-side narrow-left" },
        h("figure", {}, chooser, h("figcaption", {}, t("choose_token"))),
        grid,
      ),
      para("layers_note", {}, { class: "note" }),
      ...(evidence?.nodes ?? []),
    ],
    draw() {
      chooser.redraw();
      cells.forEach((cell) => cell.redraw());
      evidence?.draw();
      if (!CLASSES) return;
      fill(
        says,
        h("span", { class: "head-name" }, t("lens_says")),
        ...numbered(model.layers).map(([l]) => {
          const scores = app.now.scores(l + 1);
          const best = ranking(scores)[0];
          return h(
            "button",
            { type: "button", onclick: () => update({ stage: "output", after: l + 1 }) },
            h("b", {}, label(best)),
            h("small", {}, percent(scores[best], 0)),
          );
        }),
      );
    },
  };
}

/** What one token attends to as a map over the patches; each map to its own largest. */
function sharesImage(row) {
  const [rows, cols] = model.grid;
  const largest = row.subarray(1).reduce((a, b) => Math.max(a, b), 1e-12);
  return pixelImage(rows, cols, (i) => heat(row[i + 1] / largest));
}
/** What the chosen token attends to in a head; crossed out where that is not used. */
function drawHead(context, box, layer, head) {
  const row = app.now.row(layer, head, app.token);
  if (row) drawPixels(context, sharesImage(row), box.x, box.y, box.width, box.height);
  if (row && !isMuted(layer, head)) return;
  context.fillStyle = colour("panel");
  context.globalAlpha = 0.65;
  context.fillRect(box.x, box.y, box.width, box.height);
  context.globalAlpha = 1;
  drawCrossed(context, box);
}
/** In the place of a picture: nothing was computed there. */
function drawCrossed(context, { x = 0, y = 0, width, height }) {
  context.strokeStyle = colour("soft");
  context.lineWidth = 1;
  line(context, x + 4, y + 4, x + width - 4, y + height - 4);
  line(context, x + width - 4, y + 4, x + 4, y + height - 4);
}

/** CLS and the image, with one token chosen. */
function tokenChooser() {
  const boxes = () => tokenBoxes(1, 1, canvas.clientWidth - 2);
  const canvas = surface(
    (context, width) => {
      const found = tokenBoxes(1, 1, width - 2);
      drawImage(context, found.image);
      drawGrid(context, found.image);
      drawCls(context, found.box(0));
      frame(context, found.box(app.token), "query");
    },
    { "aria-hidden": "true", role: "presentation" },
  );
  const fit = () => (canvas.style.height = `${tokensHeight(canvas.clientWidth - 2) + 2}px`);
  new ResizeObserver(fit).observe(canvas);
  const picker = tokenPicker({
    name: t("choose_token"),
    get: () => app.token,
    set: (token) => update({ token }),
    boxes,
  });
  const whole = h("div", { class: "pick-on" }, canvas, picker);
  whole.redraw = () => (fit(), canvas.redraw(), picker.redraw());
  return whole;
}

/** What CLS attends to in the last layer, heads averaged, (N - 1); null where that layer is dropped. */
function meanShares(run) {
  const rows = numbered(model.heads).map(([head]) => run.row(model.layers - 1, head, 0));
  if (!rows[0]) return null;
  return Float32Array.from(
    { length: PATCHES },
    (_, i) => rows.reduce((sum, row) => sum + row[i + 1], 0) / rows.length,
  );
}

/** Spearman's: 1 for the same order, 0 for none in common, −1 for the reverse. */
function rankCorrelation(a, b) {
  const [ranksOfA, ranksOfB] = [a, b].map((values) => {
    const ranks = new Float32Array(values.length);
    ranking(values).forEach((place, rank) => (ranks[place] = rank));
    return ranks;
  });
  const middle = (a.length - 1) / 2;
  const [both, each] = ranksOfA.reduce(
    ([sum, squares], rank, i) => [
      sum + (rank - middle) * (ranksOfB[i] - middle),
      squares + (rank - middle) ** 2,
    ],
    [0, 0],
  );
  return both / each;
}

/** Beside what is looked at, what the decision rests on: how its probability changes when a patch is gray. */
function evidenceMaps() {
  const current = () => app.evidence?.for === app.now;
  const map =
    (values, largest, colourOf) =>
    (context, { image }) => {
      drawImage(context, image, true);
      const [rows, cols] = model.grid;
      const over = pixelImage(rows, cols, (i) => colourOf(values[i] / largest));
      drawPixels(context, over, image.x, image.y, image.width, image.height);
    };
  const looked = patchSurface((context, boxes) => {
    const shares = meanShares(app.now);
    if (shares)
      map(shares, Math.max(...shares), (share) => [...heat(0.25 + 0.75 * share), 235 * share ** 0.75])(
        context,
        boxes,
      );
  }).canvas;
  const tried = patchSurface((context, boxes) => {
    if (!current()) return;
    const { losses, done } = app.evidence;
    const asColour = (share) => [...twoSided(share), 40 + 200 * Math.abs(share)];
    map(losses, reach(losses), asColour)(context, boxes);
    if (done < PATCHES) frame(context, boxes.box(done + 1), "query");
  }).canvas;
  const says = h("figcaption", { "aria-live": "polite" });
  const pointed = h("p", { class: "said" });
  for (const canvas of [looked, tried])
    canvas.addEventListener("pointermove", (event) => {
      if (!current()) return;
      const token = tokenBoxes(0, 0, canvas.clientWidth, false).at(event.offsetX, event.offsetY);
      pointed.textContent = t("evidence_patch", {
        place: tokenName(token),
        label: label(app.evidence.class),
        change: signed((-100 * app.evidence.losses[token - 1]).toFixed(1)),
        share: percent(meanShares(app.now)?.[token - 1] ?? 0),
      });
    });
  const start = async () => {
    const scores = app.now.scores();
    const first = ranking(scores)[0];
    const mine = { for: app.now, class: first, losses: new Float32Array(PATCHES), done: 0 };
    app.evidence = mine;
    paint();
    for (let place = 0; place < PATCHES && app.now === mine.for; place++) {
      const gray = [...app.changes.gray, place];
      const logits = await app.engine("logits", app.bytes, { ...app.changes, gray });
      mine.losses[place] = scores[first] - softmax(logits, app.changes.outputTemperature)[first];
      mine.done = place + 1;
      paint();
    }
  };
  const button = h("button", { type: "button", class: "primary", onclick: start });
  return {
    nodes: [
      h("h3", {}, t("evidence")),
      para("evidence_intro"),
      button,
      h(
        "div",
        { class: "side-by-side" },
        h("figure", {}, looked, h("figcaption", {}, t("evidence_looked", { layer: model.layers - 1 }))),
        h("figure", {}, tried, says),
      ),
      pointed,
    ],
    draw() {
      looked.redraw();
      tried.redraw();
      const { evidence: found } = app;
      const isDone = current() && found.done === PATCHES;
      button.disabled = current();
      button.textContent = t("evidence_start", { count: PATCHES });
      const values = current() && {
        label: label(found.class),
        done: found.done,
        count: PATCHES,
        most: number(100 * Math.max(...found.losses), 1),
        least: number(100 * Math.max(0, ...found.losses.map((loss) => -loss)), 1),
      };
      const shares = isDone && meanShares(app.now);
      const text = isDone
        ? t("evidence_found", values) +
          (shares ? t("evidence_together", { r: number(rankCorrelation(shares, found.losses), 2) }) : "")
        : t(current() ? "evidence_at" : found ? "evidence_old" : "evidence_none", values || {});
      if (says.textContent !== text) says.textContent = text;
    },
  };
}

/** What is drawn in the parts of a layer, in the order in which data pass them; the sums have numbers only. */
const DRAWN = {
  norm1: "normed",
  qkv: "q",
  heads: "mixed",
  project: "fromAttention",
  norm2: "normedAgain",
  widen: "wide",
  gelu: "active",
  narrow: "fromMlp",
};

function viewLayer() {
  const layers = indexSlider(t("layer"), "layer", model.layers);
  const chooser = tokenChooser();
  const detail = h("div", { class: "fill block-detail" });
  const dimension = indexSlider(t("dimension"), "dim", model.width);
  const canvases = [];
  const box = (block) => {
    const canvas = surface(
      (context, width, height) => {
        const values = app.now.steps?.[app.layer]?.[DRAWN[block]];
        if (values) drawPixels(context, matrixImage(values, values.length / TOKENS), 0, 0, width, height);
        else drawCrossed(context, { width, height });
      },
      { "aria-hidden": "true", role: "presentation" },
    );
    canvases.push(canvas);
    return h(
      "button",
      { type: "button", class: `block ${block}`, "data-block": block, onclick: () => update({ block }) },
      h("b", {}, rich(`block_${block}`)),
      DRAWN[block] ? canvas : null,
    );
  };
  const arrow = () => h("i", { class: "arrow", "aria-hidden": "true" });
  const branch = (name, text, blocks) =>
    h(
      "div",
      { class: `branch ${name}` },
      h("span", { class: "branch-name" }, text),
      h(
        "div",
        { class: "blocks" },
        blocks.flatMap((block, i) => (i ? [arrow(), box(block)] : [box(block)])),
      ),
    );
  const diagram = h(
    "div",
    { class: "diagram" },
    h("div", { class: "residual", "aria-hidden": "true" }, h("span", {}, t("residual"))),
    branch("attention", t("attention_half"), ["norm1", "qkv", "heads", "project"]),
    box("add1"),
    branch("mlp", t("mlp_half"), ["norm2", "widen", "gelu", "narrow"]),
    box("add2"),
  );
  return {
    nodes: [
      para("layer_intro"),
      layers,
      diagram,
      h(
        "div",
        { class: "side-by-side narrow-left" },
        h("figure", {}, chooser, h("figcaption", {}, t("choose_token"))),
        h("div", { class: "fill" }, detail, dimension),
      ),
    ],
    draw() {
      layers.redraw();
      chooser.redraw();
      dimension.redraw();
      dimension.hidden = !(app.block.startsWith("norm") && app.now.steps?.[app.layer]);
      canvases.forEach((canvas) => canvas.redraw());
      diagram
        .querySelectorAll(".block")
        .forEach((b) => b.setAttribute("aria-pressed", b.dataset.block === app.block));
      fill(detail, ...blockDetail(app.block));
    },
  };
}

/** What a part of the layer does to the chosen token, with its numbers. */
function blockDetail(block) {
  const step = app.now.steps?.[app.layer];
  const of = (array) => slice(array, app.token, array.length / TOKENS);
  const head = [
    h(
      "h3",
      {},
      rich(block.startsWith("add") ? "residual_title" : `block_${block}`),
      " · ",
      tokenName(app.token),
    ),
    para(`about_${block}`, {
      width: model.width,
      wide: model.mlpWidth,
      heads: model.heads,
      d: model.headWidth,
    }),
  ];
  const norms = app.now.norms(app.layer, app.token);
  if (app.now.steps && !step) return [head[0], para("layer_dropped", {}, { class: "note" })];
  if (block === "heads") {
    const maps = numbered(model.heads).map(([i]) => {
      const canvas = surface(
        (context, width, height) => drawHead(context, { x: 0, y: 0, width, height }, app.layer, i),
        { style: `aspect-ratio:${RATIO}`, "aria-hidden": "true", role: "presentation" },
      );
      return h(
        "button",
        {
          type: "button",
          class: "cell big",
          "aria-label": t("open_head", { layer: app.layer, head: i }),
          onclick: () => update({ stage: "head", head: i }),
        },
        canvas,
        h("span", {}, t("head_n", { head: i })),
      );
    });
    return [
      ...head,
      h("div", { class: "head-row" }, maps),
      step && strip(of(step.mixed), { name: t("found"), tall: true, groups: model.heads }),
    ];
  }
  if (block === "add1" || block === "add2") {
    const [a, b, sum] = block === "add1" ? norms : norms.slice(2);
    const names =
      block === "add1"
        ? ["before", "adds_attention", "after_attention"]
        : ["after_attention", "adds_mlp", "after_mlp"];
    const vectors =
      step &&
      (block === "add1"
        ? [app.now.states[app.layer], step.fromAttention, step.middle]
        : [step.middle, step.fromMlp, app.now.states[app.layer + 1]]
      ).map(of);
    const limit = vectors && reach(vectors.flatMap((values) => [...values]));
    return [
      ...head,
      formula(block === "add1" ? "[x:x] + [a:attention] = [e:x′]" : "[e:x′] + [a:MLP] = [x:x⁺]"),
      ...(vectors ? vectors.map((values, i) => strip(values, { name: t(names[i]), limit, tall: true })) : []),
      h(
        "table",
        { class: "numbers" },
        [a, b, sum].map((value, i) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, t(names[i])),
            h(
              "td",
              { class: "bar-cell" },
              h("span", { class: "bar", style: `--share:${value / Math.max(a, b, sum)}` }),
            ),
            h("td", {}, number(value, 2)),
          ),
        ),
      ),
      para("norm_note", {}, { class: "note" }),
    ];
  }
  if (!step) return [...head, para("not_recorded", {}, { class: "note" })];
  if (block === "norm1" || block === "norm2") {
    const before = of(block === "norm1" ? app.now.states[app.layer] : step.middle);
    const after = of(block === "norm1" ? step.normed : step.normedAgain);
    const { mean, deviation } = moments(before, model.eps);
    const name = `vit.layers.${app.layer}.layernorm_${block === "norm1" ? "before" : "after"}`;
    const d = Math.min(app.dim, model.width - 1);
    const gamma = app.weights[`${name}.weight`][d];
    const beta = app.weights[`${name}.bias`][d];
    return [
      ...head,
      formula("[e:y] = ([x:x] − μ) / σ · γ + β"),
      strip(before, { name: t("in"), mark: d, tall: true }),
      strip(after, { name: t("out"), mark: d, tall: true }),
      formula("({x} − {mean}) / {deviation} · {gamma} + {beta} = [e:{y}]", {
        x: number(before[d]),
        mean: inFormula(mean),
        deviation: number(deviation),
        gamma: inFormula(gamma),
        beta: inFormula(beta),
        y: number(after[d]),
      }),
    ];
  }
  if (block === "qkv")
    return [
      ...head,
      ...["q", "k", "v"].map((name) =>
        strip(of(step[name]), {
          name: `[${{ q: "query", k: "key", v: "value" }[name]}:${name}]`,
          tall: true,
          groups: model.heads,
        }),
      ),
      para("qkv_note", { heads: model.heads, d: model.headWidth }, { class: "note" }),
    ];
  if (block === "gelu")
    return [
      ...head,
      formula("GELU(x) = x · Φ(x) = x · ½ (1 + erf(x / √2))"),
      geluPlot(of(step.wide)),
      para(
        "gelu_note",
        { open: of(step.wide).filter((x) => x > 0).length, count: model.mlpWidth },
        { class: "note" },
      ),
    ];
  const [from, to] = {
    project: ["mixed", "fromAttention"],
    widen: ["normedAgain", "wide"],
    narrow: ["active", "fromMlp"],
  }[block];
  return [
    ...head,
    formula("[e:y] = W [x:x] + b"),
    strip(of(step[from]), { name: t("in"), tall: true }),
    strip(of(step[to]), { name: t("out"), tall: true }),
  ];
}

/** GELU, and where this token's numbers lie on it. */
function geluPlot(values) {
  return surface(
    (context, width, height) => {
      const [low, high] = [-4, 4];
      const x = (v) => ((v - low) / (high - low)) * width;
      const y = (v) => height - 24 - ((v + 0.5) / 4.5) * (height - 36);
      context.strokeStyle = colour("line");
      context.lineWidth = 1;
      line(context, 0, y(0), width, y(0));
      line(context, x(0), 0, x(0), height);
      context.strokeStyle = colour("soft");
      context.lineWidth = 2;
      context.beginPath();
      for (let v = low; v <= high; v += 0.05) context.lineTo(x(v), y(gelu(v)));
      context.stroke();
      context.fillStyle = colour("attention");
      context.globalAlpha = 0.45;
      for (const v of values) {
        context.beginPath();
        context.arc(x(Math.min(Math.max(v, low), high)), y(Math.min(gelu(v), high)), 3, 0, 7);
        context.fill();
      }
      context.globalAlpha = 1;
      context.fillStyle = colour("soft");
      context.font = "12px system-ui, sans-serif";
      context.textAlign = "center";
      for (const v of [-3, -2, -1, 1, 2, 3]) context.fillText(signed(String(v)), x(v), height - 6);
    },
    { class: "plot", "aria-label": t("gelu_plot", { count: values.length }) },
  );
}
