// The prediction, beside what it was; and everything that can be changed.
"use strict";

const untouched = () => ({
  order: null,
  gray: [],
  zeroPositions: false,
  dropped: [],
  muted: [],
  temperature: 1,
  outputTemperature: 1,
});
const isChanged = () => JSON.stringify(app.changes) !== JSON.stringify(untouched());

/** Change something; the model runs again, and only the last of many wishes is computed. */
function change(patch) {
  app.changes = { ...app.changes, ...patch };
  app.picture = pictureOf(app.bytes, app.changes);
  document.body.classList.add("computing"); // what is shown is old until then
  paint();
  app.rerun ??= (async () => {
    let wish;
    do {
      wish = app.changes;
      const trace = await app.engine("forward", app.bytes, wish);
      app.now = liveRun(trace, wish.outputTemperature);
      paint();
    } while (wish !== app.changes);
  })().finally(() => {
    app.rerun = null;
    document.body.classList.remove("computing");
  });
  return app.rerun;
}
const reset = () => change(untouched());

/** Another image: both what is compared with, and what is changed. */
async function useImage(bytes, source) {
  app.bytes = bytes;
  app.source = source;
  app.changes = untouched();
  app.base = liveRun(await app.engine("forward", bytes, untouched()));
  await change(untouched());
  update({ cls: ranking(app.now.scores())[0] });
}

/** The image as it is given to the model, patches moved and gray. */
function pictureOf(bytes, { order, gray }) {
  const cols = model.grid[1];
  const [ph, pw] = model.patch;
  const width = model.imageWidth;
  const all = bytesImage(bytes, bytes.length / 3 / width, width);
  if (!order && !gray.length) return all;
  const changed = document.createElement("canvas");
  const context = changed.getContext("2d");
  [changed.width, changed.height] = [all.width, all.height];
  context.drawImage(all, 0, 0);
  context.fillStyle = "rgb(128,128,128)";
  for (let to = 0; to < PATCHES; to++) {
    const from = order ? order[to] : to;
    const x = (to % cols) * pw;
    const y = Math.floor(to / cols) * ph;
    if (gray.includes(to)) context.fillRect(x, y, pw, ph);
    else context.drawImage(all, (from % cols) * pw, Math.floor(from / cols) * ph, pw, ph, x, y, pw, ph);
  }
  return changed;
}

/** A file → RGB bytes of the model's size. What is transparent is laid on white, as in Python. */
async function readFile(file) {
  const bitmap = await createImageBitmap(file, {
    imageOrientation: "from-image",
    colorSpaceConversion: "none",
  });
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  context.fillStyle = "#fff";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const bytes = new Uint8Array((rgba.length / 4) * 3);
  for (let i = 0, at = 0; i < rgba.length; i += 4) for (let c = 0; c < 3; c++) bytes[at++] = rgba[i + c];
  return app.engine("resize", bytes, bitmap.height, bitmap.width);
}
async function takeFile(file) {
  if (!file) return;
  try {
    await useImage(await readFile(file), file.name);
    say(t("image_taken", { name: file.name }));
  } catch {
    say(t("image_bad", { name: file.name }));
  }
}

/** The bars; on a narrow screen, where they may be out of sight, one line of them at its foot. */
function predictionPanel() {
  const bars = h("div", { class: "bars" });
  const title = h("p", { class: "verdict", "aria-live": "polite" });
  const legend = h("p", { class: "legend" });
  const panel = h(
    "section",
    { class: "panel prediction", id: "prediction", "aria-labelledby": "prediction-title" },
    h(
      "header",
      {},
      h("h2", { id: "prediction-title" }, t("prediction")),
      CLASSES ? h("small", {}, t("of_classes", { count: count(CLASSES) })) : null,
    ),
    title,
    bars,
    legend,
  );
  const brief = h("a", { class: "brief", href: "#prediction", hidden: true });
  new IntersectionObserver(([{ isIntersecting }]) => (brief.hidden = isIntersecting || !CLASSES)).observe(
    panel,
  );
  panel.brief = brief;
  return remembering(
    panel,
    () => [app.now, app.base, app.changes],
    () => {
      if (!CLASSES) return fill(title, ...rich("no_classes"));
      const now = app.now.scores();
      const before = app.base.scores();
      const best = ranking(now)[0];
      const was = ranking(before)[0];
      const shown =
        CLASSES <= 10
          ? ranking(before)
          : [...new Set([...ranking(before).slice(0, 5), ...ranking(now).slice(0, 3)])];
      const verdict = { label: label(best), score: percent(now[best]), was: label(was) };
      fill(title, ...rich("verdict", verdict));
      fill(brief, ...rich("verdict", verdict), best === was ? "" : ` (${t("legend_was", verdict)})`);
      fill(bars, ...shown.map((c) => barRow(label(c), now[c], before[c])));
      if (!given.live) return;
      fill(
        legend,
        h("span", { class: "key-before" }),
        t(best === was ? "legend_before" : "legend_was", verdict),
        h("span", { class: "key-now" }),
        t("legend_now"),
      );
    },
  );
}

const changePanel = () => (given.live ? liveSwitches() : unavailableSwitches());

/** What could be changed if the model were in the page, and why it is not. */
function unavailableSwitches() {
  const names = ["gray", "image", "positions", "layers", "temperature"];
  const boxes = names.map((name) =>
    h("label", { class: "check" }, h("input", { type: "checkbox", disabled: true }), t(`switch_${name}`)),
  );
  const why = para(
    `reason_${given.reason ?? "asked"}`,
    { parameters: count(model.parameters) },
    { class: "note" },
  );
  const list = h("fieldset", { disabled: true }, h("legend", { class: "hidden" }, t("change")), boxes);
  const title = h("h2", { id: "change-title" }, t("change"));
  const labelled = { class: "panel change", "aria-labelledby": "change-title" };
  return Object.assign(h("section", labelled, title, para("change_recorded"), why, list), { redraw() {} });
}

/** The image to paint on: patches become gray, or two of them change places. */
function patchPainter() {
  let tool = "gray";
  let stroke = null; // while a pointer is down: whether it makes gray, or takes gray away
  let taken = 0; // the patch that waits for another to change places with
  const { canvas, boxes } = patchSurface((context, found) => {
    if (taken) frame(context, found.box(taken), "key");
    if (document.activeElement === area || area.matches(":hover"))
      frame(context, found.box(app.paintAt), "query");
  });
  const isGray = (token) => app.changes.gray.includes(token - 1);
  const setGray = (token, on) => {
    const gray = app.changes.gray.filter((one) => one !== token - 1);
    change({ gray: on ? [...gray, token - 1] : gray });
  };
  const putDown = (token) => {
    const order = app.changes.order ? [...app.changes.order] : numbered(PATCHES).map(([i]) => i);
    [order[taken - 1], order[token - 1]] = [order[token - 1], order[taken - 1]];
    taken = 0;
    change({ order: order.every((from, to) => from === to) ? null : order });
  };
  const area = tokenPicker({
    name: t("paint_picker"),
    least: 1,
    boxes,
    get: () => app.paintAt,
    tell: () => (taken === app.paintAt ? t("is_taken") : isGray(app.paintAt) ? t("is_gray") : ""),
    set: (token) => {
      app.paintAt = token;
      if (stroke !== null) setGray(token, stroke);
      whole.redraw();
    },
    press: (token) => {
      if (tool === "gray") setGray(token, (stroke = !isGray(token)));
      else if (taken) putDown(token);
      else taken = token;
      whole.redraw();
    },
  });
  area.addEventListener("pointerdown", (event) => area.setPointerCapture(event.pointerId));
  area.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse" || !event.buttons) return; // the picker itself follows a mouse
    const token = boxes().at(event.offsetX, event.offsetY);
    if (token === app.paintAt) return;
    app.paintAt = token;
    if (stroke !== null) setGray(token, stroke);
    canvas.redraw();
  });
  // Swapped by dragging, or by choosing one and then the other
  for (const end of ["pointerup", "pointercancel", "keyup"])
    area.addEventListener(end, () => {
      stroke = null;
      if (end === "pointerup" && taken && taken !== app.paintAt) putDown(app.paintAt);
    });
  const hint = h("small", {});
  const tools = choice(
    t("tool"),
    [
      ["gray", t("tool_gray")],
      ["swap", t("tool_swap")],
    ],
    () => tool,
    (value) => ((tool = value), (taken = 0), whole.redraw()),
  );
  const shuffle = h(
    "button",
    { type: "button", onclick: () => change({ order: shuffled(PATCHES) }) },
    t("shuffle"),
  );
  const whole = h(
    "div",
    { class: "paint" },
    h("div", { class: "pick-on painter" }, canvas, area),
    h("div", {}, tools, hint, shuffle),
  );
  whole.redraw = () => {
    hint.textContent = t(`hint_${tool}`);
    [canvas, area, tools].forEach((one) => one.redraw());
  };
  return whole;
}

/** Another image, from a file. */
function imageChooser() {
  if (!model.resize) return para("no_resize", {}, { class: "note" });
  const back = h(
    "button",
    { type: "button", onclick: async () => useImage(await unpack(given.image), given.source) },
    t("first_image", { name: given.source }),
  );
  const file = h("input", {
    type: "file",
    accept: "image/*",
    class: "hidden",
    id: "file",
    onchange: () => takeFile(file.files[0]),
  });
  const whole = h(
    "div",
    { class: "drop" },
    h("p", {}, file, h("label", { for: "file", class: "button" }, t("choose_image")), " ", t("drop_here")),
    back,
    h("small", {}, t("jpeg_note")),
  );
  whole.redraw = () => (back.hidden = app.source === given.source);
  return whole;
}

/** A number drops a layer, a square mutes a head. */
function layerSwitches() {
  const switches = [];
  const table = h(
    "div",
    { class: "switches", role: "group", "aria-label": t("switch_layers"), style: `--layers:${model.layers}` },
    h("span", {}),
  );
  const toggle = (list, value) =>
    list.includes(value) ? list.filter((one) => one !== value) : [...list, value];
  const button = (text, name, isOff, flip, look) => {
    const made = h(
      "button",
      { type: "button", class: look, "aria-label": name, title: name, onclick: flip },
      text,
    );
    made.redraw = () => made.setAttribute("aria-pressed", !isOff());
    switches.push(made);
    table.append(made);
  };
  for (let l = 0; l < model.layers; l++)
    button(
      String(l),
      t("layer_on", { layer: l }),
      () => isDropped(l),
      () => change({ dropped: toggle(app.changes.dropped, l) }),
      "layer",
    );
  for (let head = 0; head < model.heads; head++) {
    table.append(h("span", {}, t("head_n", { head })));
    for (let l = 0; l < model.layers; l++)
      button(
        "",
        t("head_on", { layer: l, head }),
        () => isMuted(l, head) || isDropped(l),
        () => change({ muted: toggle(app.changes.muted, `${l},${head}`) }),
        "head",
      );
  }
  table.redraw = () => switches.forEach((one) => one.redraw());
  return table;
}
const isDropped = (layer) => app.changes.dropped.includes(layer);
const isMuted = (layer, head) => app.changes.muted.includes(`${layer},${head}`);

/** All switches. */
function liveSwitches() {
  const painter = patchPainter();
  const chooser = imageChooser();
  const input = h("input", {
    type: "checkbox",
    onchange: () => change({ zeroPositions: input.checked }),
  });
  const table = layerSwitches();
  const temperature = (key, name) =>
    slider(t(key), {
      min: -2,
      max: 2,
      step: 0.1,
      get: () => Math.log2(app.changes[name]),
      set: (value) => change({ [name]: 2 ** value }),
      say: (value) => `T = ${(2 ** value).toFixed(2)}`,
    });
  const attention = temperature("temperature_attention", "temperature");
  const output = temperature("temperature_output", "outputTemperature");
  const note = (key) => para(key, {}, { class: "note" });
  const undo = h("button", { type: "button", class: "reset", onclick: reset }, t("reset"));
  const panel = h(
    "section",
    { class: "panel change", "aria-labelledby": "change-title" },
    h("header", {}, h("h2", { id: "change-title" }, t("change")), undo),
    h(
      "div",
      { class: "change-body" },
      painter,
      note("shuffle_note"),
      chooser,
      h("label", { class: "check" }, input, t("switch_positions")),
      h("p", { class: "label" }, t("switch_layers")),
      table,
      note("switch_note"),
      attention,
      note("temperature_attention_note"),
      output,
      note("temperature_output_note"),
    ),
  );
  return remembering(
    panel,
    () => [app.changes, app.picture, app.source],
    () => {
      input.checked = app.changes.zeroPositions;
      [painter, chooser, table, attention, output].forEach((one) => one.redraw?.());
      undo.disabled = !isChanged();
    },
  );
}

/** The numbers below `many` in an order of chance. */
function shuffled(many) {
  const order = Array.from({ length: many }, (_, i) => i);
  for (let i = many - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** Dropping a file anywhere on the page. */
function acceptDrops() {
  if (!given.live || !model.resize) return;
  const body = document.body;
  body.addEventListener("dragover", (event) => (event.preventDefault(), body.classList.add("dropping")));
  body.addEventListener("dragleave", (event) => event.relatedTarget || body.classList.remove("dropping"));
  body.addEventListener("drop", (event) => {
    event.preventDefault();
    body.classList.remove("dropping");
    takeFile(event.dataTransfer.files[0]);
  });
}
