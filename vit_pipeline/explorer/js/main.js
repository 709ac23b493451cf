// The page: its state, its parts, and what is drawn when.
"use strict";

/** What the reader looks at. Views read it; update() changes it. */
const app = {
  lang: "en",
  stage: "patches",
  cut: 0.3,
  token: 0,
  key: 1,
  layer: 0,
  head: 0,
  dim: 0,
  block: "heads",
  after: model.layers,
  cls: 0,
  paintAt: 1,
  source: given.source,
  changes: untouched(),
  evidence: null, // { for: the run asked about, class, losses: (N - 1), done: how many of them are known }
  tour: null,
  theme: 0,
};

const STAGES = {
  patches: viewPatches,
  embedding: viewEmbedding,
  positions: viewPositions,
  layers: viewLayers,
  layer: viewLayer,
  head: viewHead,
  output: viewOutput,
};
const INSIDE = { layer: "layers", head: "layers" }; // where they are in the strip

let view;
let parts = [];
let painting = false;

/** Look at something else. */
function update(patch) {
  const mounts = "stage" in patch && patch.stage !== app.stage;
  Object.assign(app, patch);
  const row = app.now.row(app.layer, app.head, app.token);
  // Whoever looks, from wherever: begin with what it looks at most
  if (row && !("key" in patch) && ["token", "layer", "head"].some((name) => name in patch))
    app.key = ranking(row)[0];
  if (mounts) mountView();
  paint();
}

/** Draw everything again, once a frame. */
function paint() {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    view?.draw();
    parts.forEach((part) => part.redraw());
  });
}

function mountView() {
  view = STAGES[app.stage]();
  const names = () => [
    t("stage_layers"),
    t("layer_n", { layer: app.layer }),
    t("head_n", { head: app.head }),
  ];
  const depth = { layer: 2, head: 3 }[app.stage] ?? 0;
  const crumbs = ["layers", "layer", "head"]
    .slice(0, depth)
    .map((stage, i) =>
      i + 1 < depth
        ? h("button", { type: "button", class: "crumb", onclick: () => update({ stage }) })
        : h("span", {}),
    );
  const title = h(
    "h2",
    { tabindex: -1, id: "stage-title" },
    depth ? crumbs.flatMap((crumb, i) => (i ? [" › ", crumb] : [crumb])) : t(`stage_${app.stage}`),
  );
  const detail = document.getElementById("detail");
  fill(detail, h("header", {}, title), ...view.nodes);
  detail.dataset.stage = app.stage;
  detail.redrawTitle = () => crumbs.forEach((crumb, i) => (crumb.textContent = names()[i]));
  detail.redrawTitle();
}

/** Left to right, one picture of the whole computation. */
function overview() {
  const canvases = [];
  const [rows, cols] = model.grid;
  const ratio = (cols * model.patch[1]) / (rows * model.patch[0]);
  const node = (stage, key, shape, paintIt, look) => {
    const canvas = surface((context, width, height) => app.now && paintIt(context, width, height), {
      "aria-hidden": "true",
      role: "presentation",
    });
    canvases.push(canvas);
    return h(
      "button",
      {
        type: "button",
        class: `node ${look}`,
        "data-stage": stage,
        "data-node": key,
        onclick: () => update({ stage }),
      },
      h("b", {}, t(`node_${key}`)),
      canvas,
      h("small", {}, shape),
    );
  };
  const tokens = (array) => (context, width, height) =>
    drawPixels(context, matrixImage(array(), model.width), 0, 0, width, height);
  const flow = (text) =>
    h("span", { class: "flow", "aria-hidden": "true" }, h("i", {}), h("small", {}, text));
  const square = (context, width, height) => {
    const wide = Math.min(width, height * ratio);
    const tall = wide / ratio;
    return [(width - wide) / 2, (height - tall) / 2, wide, tall];
  };
  const nodes = [
    node(
      "patches",
      "image",
      `3 × ${app.picture.height} × ${app.picture.width}`,
      (context, width, height) => {
        const [x, y, wide, tall] = square(context, width, height);
        drawImage(context, { x, y, width: wide, height: tall });
      },
      "pic",
    ),
    flow(t("flow_cut")),
    node(
      "patches",
      "patches",
      `${PATCHES} × ${3 * model.patch[0] * model.patch[1]}`,
      (context, width, height) => drawCut(context, width, height, 0.5, false),
      "pic",
    ),
    flow("× W + b"),
    node(
      "embedding",
      "embedding",
      `${PATCHES} × ${model.width}`,
      tokens(() => app.now.embedded),
      "mat",
    ),
    flow(t("flow_position")),
    node(
      "positions",
      "positions",
      `${TOKENS} × ${model.width}`,
      tokens(() => app.now.placed),
      "mat",
    ),
    flow(""),
    node(
      "layers",
      "layers",
      t("layers_shape", { layers: model.layers, heads: model.heads }),
      (context, width, height) => {
        const w = width / model.layers;
        const hh = height / model.heads;
        const gap = Math.min(2.5, w * 0.12);
        for (let l = 0; l < model.layers; l++)
          for (let head = 0; head < model.heads; head++) {
            const box = { x: l * w + gap / 2, y: head * hh + gap / 2, width: w - gap, height: hh - gap };
            drawHead(context, box, l, head);
            if (
              (app.stage === "head" || app.stage === "layer") &&
              l === app.layer &&
              (app.stage === "layer" || head === app.head)
            )
              frame(context, box, "accent", 1.5);
          }
      },
      "grid",
    ),
    flow(t("flow_cls")),
    node(
      "output",
      "cls",
      `${model.width}`,
      (context, width, height) => {
        const cls = app.now.finals?.[model.layers] ?? app.now.cls(model.layers);
        const image = pixelImage(cls.length, 1, (i) => twoSided(cls[i] / (reach(cls) * 0.6)));
        drawPixels(context, image, width * 0.3, 0, width * 0.4, height);
      },
      "thin",
    ),
    CLASSES ? flow("× W + b") : null,
    CLASSES
      ? node(
          "output",
          "logits",
          `${CLASSES}`,
          (context, width, height) => drawOutputs(context, width, height, app.now.logits(), true),
          "out",
        )
      : null,
    CLASSES ? flow("softmax") : null,
    CLASSES
      ? node(
          "output",
          "classes",
          `${CLASSES}`,
          (context, width, height) => drawOutputs(context, width, height, app.now.scores(), false),
          "out",
        )
      : null,
  ];
  const strip = h("nav", { class: "overview", "aria-label": t("overview") }, nodes);
  const shown = () => [app.now, app.picture, app.token, app.stage, app.layer, app.head];
  return remembering(strip, shown, () => {
    canvases.forEach((canvas) => canvas.redraw());
    const at = INSIDE[app.stage] ?? app.stage;
    strip
      .querySelectorAll(".node")
      .forEach((one) =>
        one.dataset.stage === at
          ? one.setAttribute("aria-current", "step")
          : one.removeAttribute("aria-current"),
      );
    document.getElementById("detail").redrawTitle?.();
    const node = strip.querySelector("[aria-current]"); // on a phone the strip is wider than the screen
    strip.scrollLeft = node.offsetLeft - strip.offsetLeft - (strip.clientWidth - node.offsetWidth) / 2;
  });
}

/** Logits or probabilities of a few classes, the likeliest first. */
function drawOutputs(context, width, height, values, twoWays) {
  const order = ranking(app.base.scores()).slice(0, CLASSES <= 10 ? 10 : 8);
  const tall = height / order.length;
  const place = twoWays ? barsAround0(values) : (c) => ({ from: 0, share: values[c] });
  context.font = `${Math.min(11, tall * 0.62)}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  order.forEach((c, i) => {
    const { from, share } = place(c);
    context.fillStyle = colour(!twoWays ? "now" : values[c] < 0 ? "below" : "above");
    context.fillRect(from * width, i * tall + tall * 0.14, Math.max(share * width, 1), tall * 0.72);
    if (twoWays) return;
    context.fillStyle = colour("ink");
    context.textAlign = "left";
    context.save();
    context.beginPath();
    context.rect(0, 0, width, height);
    context.clip();
    context.fillText(label(c), 4, i * tall + tall / 2 + 0.5);
    context.restore();
  });
}

/** Tells a screen reader, and shows for a moment. */
function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (place.textContent = ""), 6000);
}

function header() {
  const languages = choice(
    t("language"),
    [
      ["en", "English"],
      ["zh", "中文"],
    ],
    () => app.lang,
    setLanguage,
  );
  const dark = h(
    "button",
    { type: "button", class: "theme", "aria-label": t("theme"), title: t("theme"), onclick: turnTheme },
    "◐",
  );
  const mode = choice(
    t("mode"),
    [
      ["tour", t("mode_tour")],
      ["free", t("mode_free")],
    ],
    () => (app.tour ? "tour" : "free"),
    (mode) => (mode === "tour" ? startTour() : endTour()),
  );
  const bar = h(
    "header",
    { class: "top" },
    h("div", { class: "titles" }, h("h1", {}, t("title")), h("p", {})),
    h("div", { class: "controls" }, mode, languages, dark),
  );
  const subtitle = bar.querySelector("p");
  bar.redraw = () => {
    [mode, languages].forEach((one) => one.redraw());
    fill(
      subtitle,
      rich("subtitle", { source: app.source, model: model.name, parameters: count(model.parameters) }),
    );
  };
  return bar;
}

function turnTheme() {
  const root = document.documentElement;
  const isDark =
    getComputedStyle(root).colorScheme === "dark" ||
    (!root.style.colorScheme && matchMedia("(prefers-color-scheme: dark)").matches);
  root.style.colorScheme = isDark ? "light" : "dark";
  forgetColours();
}

/** The theme has changed. */
function forgetColours() {
  colours.clear();
  app.theme++;
  paint();
}

function setLanguage(lang) {
  app.lang = lang;
  mount();
  document.querySelector(`[data-value="${lang}"]`)?.focus();
}

/** How far the numbers may be trusted, in small print. */
function smallPrint() {
  const lines = given.live
    ? [para("print_live", { off: given.rounding.toPrecision(2), source: given.source })]
    : [para("print_recorded", { doubt: app.now.largestDoubt.toFixed(4) })];
  return h(
    "footer",
    {},
    lines,
    para("print_learned"),
    para("print_seen", { height: app.picture.height, width: app.picture.width }),
    para("print_made"),
  );
}

/** Everything, in the language of the moment. */
function mount() {
  document.documentElement.lang = app.lang === "zh" ? "zh-CN" : "en";
  const strip = overview();
  const top = header();
  const prediction = predictionPanel();
  const changes = changePanel();
  const tour = tourPanel();
  fill(
    document.getElementById("page"),
    top,
    h(
      "main",
      {},
      strip,
      h(
        "div",
        { class: "columns" },
        h(
          "div",
          { class: "left" },
          tour,
          h("section", { id: "detail", class: "panel", "aria-labelledby": "stage-title" }),
        ),
        h("div", { class: "side" }, prediction, changes),
      ),
    ),
    prediction.brief,
    smallPrint(),
  );
  parts = [top, strip, prediction, changes, tour];
  const side = document.querySelector(".side");
  new ResizeObserver(
    () => (side.style.top = `${Math.min(12, innerHeight - side.offsetHeight - 12)}px`),
  ).observe(side);
  mountView();
  paint();
}

async function start() {
  const wished = document.documentElement.dataset.lang || (navigator.language.startsWith("zh") ? "zh" : "en");
  app.lang = wished;
  app.bytes = await unpack(given.image);
  app.picture = pictureOf(app.bytes, app.changes);
  app.similarity = await unpack(given.positions);
  app.positions = positionStatistics(app.similarity);
  const filters = await unpack(given.filters);
  const [many, height, width] = given.filters.shape;
  app.filters = Array.from({ length: many }, (_, i) =>
    bytesImage(slice(filters, i, height * width * 3), height, width),
  );
  if (given.live) {
    app.engine = startEngine();
    await app.engine("load", model, given.tensors, await unpack(given.weights));
    const small = given.tensors
      .map(([name]) => name)
      .filter((name) => /layernorm|patch_embeddings/.test(name));
    app.weights = await app.engine("weights", small);
    app.base = liveRun(await app.engine("forward", app.bytes, {}));
  } else {
    if (model.pixels) app.patches = cutIntoPatches(model, app.bytes);
    app.base = await recordedRun();
  }
  app.now = app.base;
  if (CLASSES) app.cls = ranking(app.now.scores())[0];
  app.layer = model.layers - 1;
  app.key = ranking(app.now.row(app.layer, app.head, 0))[0];
  mount();
  acceptDrops();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", forgetColours);
  document.body.classList.remove("starting");
  window.explorer = app; // for the console, and for tests
}

start().catch((error) => {
  document.body.classList.remove("starting");
  fill(document.getElementById("page"), para("failed", { reason: String(error) }, { class: "loading" }));
});
