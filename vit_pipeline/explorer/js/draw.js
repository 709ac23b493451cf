// What every view draws with: elements, words, colours, canvases, strips of numbers, tokens to choose.
"use strict";

const words = JSON.parse(document.getElementById("text").textContent);
const LANGUAGES = ["en", "zh"];

/** An element. Attributes that are functions listen; children are elements or text, never HTML. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...present(children));
  return element;
}
/** Without what is not there: a part of a view may be null or false. */
const present = (children) =>
  children.flat().filter((child) => child !== null && child !== undefined && child !== false);
/** Other children; what had the keyboard's focus among the old ones has it among the new. */
function fill(element, ...children) {
  const focusable = () => [...element.querySelectorAll("button, input, [tabindex]")];
  const focused = element.contains(document.activeElement) ? focusable().indexOf(document.activeElement) : -1;
  element.replaceChildren(...present(children));
  if (focused >= 0) focusable()[focused]?.focus({ preventScroll: true });
}

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? `{${name}}`);

/** A sentence in the page's language, {name} replaced. */
function t(key, values = {}) {
  const found = words[key];
  if (!found) throw new Error(`no words for ${key}`);
  return filled(found[LANGUAGES.indexOf(app.lang)], values);
}

/** Text with **bold** and [q:coloured] parts → nodes. What is filled in is text, whatever stands in it. */
function rich(key, values = {}) {
  const template = words[key] ? words[key][LANGUAGES.indexOf(app.lang)] : key;
  return template.split(/(\*\*.+?\*\*|\[\w+:.+?\])/).map((part) => {
    const coloured = part.match(/^\[(\w+):(.+)\]$/);
    if (part.startsWith("**")) return h("strong", {}, filled(part.slice(2, -2), values));
    if (coloured) return h("span", { class: `c-${coloured[1]}` }, filled(coloured[2], values));
    return filled(part, values);
  });
}
const para = (key, values, attributes = {}) => h("p", attributes, rich(key, values));

const signed = (text) => text.replace("-", "−");
const number = (value, digits = 4) => signed(value.toFixed(digits));
/** In a formula, behind a sign. */
const inFormula = (value, digits = 4) => (value < 0 ? `(${number(value, digits)})` : number(value, digits));
/** What is not all is not called 100 %. */
const percent = (share, digits = 1) => {
  const text = (100 * share).toFixed(digits);
  return share < 1 && text === (100).toFixed(digits)
    ? `> ${(100 - 0.1 ** digits).toFixed(digits)}%`
    : `${text}%`;
};
/** A number above 0 that may be large. */
const amount = (value) => (value < 1e5 ? value.toFixed(3) : value.toExponential(3));
const count = (value) => value.toLocaleString("en");
const label = (index) => model.labels[index].split(", ")[0];
const rowOf = (token) => Math.floor((token - 1) / model.grid[1]);
const colOf = (token) => (token - 1) % model.grid[1];
const tokenName = (token) => (token ? t("token", { row: rowOf(token) + 1, col: colOf(token) + 1 }) : "CLS");

// Colours

const colours = new Map();
/** A colour of page.css in the present theme. */
function colour(name) {
  if (!colours.has(name)) {
    const probe = h("i", { style: `color:var(--${name})` });
    document.body.append(probe);
    colours.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return colours.get(name);
}
const INFERNO = [
  [8, 6, 24],
  [40, 11, 84],
  [101, 21, 110],
  [159, 42, 99],
  [212, 72, 66],
  [245, 125, 21],
  [250, 193, 39],
  [252, 255, 164],
];
/** 0 to 1 → dark to bright. */
function heat(share) {
  const at = Math.min(Math.max(share, 0), 1) * (INFERNO.length - 1);
  const low = Math.min(Math.floor(at), INFERNO.length - 2);
  return INFERNO[low].map((from, i) => Math.round(from + (at - low) * (INFERNO[low + 1][i] - from)));
}
/** −1 to 1 → blue, nothing, red: in 513 steps, made once for each theme. */
function twoSided(value) {
  if (!colours.has("steps")) {
    const [zero, ...ends] = ["zero", "below", "above"].map((name) => colour(name).match(/\d+/g).map(Number));
    const step = (at) =>
      zero.map((from, i) => Math.round(from + Math.abs(at / 256) ** 0.7 * (ends[at < 0 ? 0 : 1][i] - from)));
    colours.set(
      "steps",
      Array.from({ length: 513 }, (_, i) => step(i - 256)),
    );
  }
  return colours.get("steps")[256 + Math.round(256 * Math.min(Math.max(value, -1), 1))];
}
const rgb = ([r, g, b], alpha = 1) => `rgba(${r},${g},${b},${alpha})`;

// Canvases

/** A canvas as large as its place in the page and as sharp as the screen; redraw() paints it again. */
function surface(paint, attributes = {}) {
  const canvas = h("canvas", { role: "img", ...attributes });
  canvas.redraw = () => {
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    const sharp = Math.min(window.devicePixelRatio || 1, 3);
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(height * sharp);
    const context = canvas.getContext("2d");
    context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
    paint(context, width, height);
  };
  new ResizeObserver(canvas.redraw).observe(canvas);
  return canvas;
}

/** Numbers (rows, cols) as a small image, one pixel each: ready to be drawn at any size. */
function pixelImage(rows, cols, colourOf) {
  const small = document.createElement("canvas");
  small.width = cols;
  small.height = rows;
  const context = small.getContext("2d");
  const pixels = context.createImageData(cols, rows);
  for (let i = 0; i < rows * cols; i++) {
    const [r, g, b, alpha = 255] = colourOf(i);
    pixels.data.set([r, g, b, alpha], i * 4);
  }
  context.putImageData(pixels, 0, 0);
  return small;
}
const bytesImage = (bytes, rows, cols) => pixelImage(rows, cols, (i) => bytes.subarray(i * 3, i * 3 + 3));

function drawPixels(context, image, x, y, width, height, smooth = false) {
  context.imageSmoothingEnabled = smooth;
  context.drawImage(image, x, y, width, height);
}

/** The largest of absolute values, so that 0 stays in the middle of the colours. */
const reach = (values) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-12);

/** A vector as a row of coloured cells; pointing at one tells its number. `mark`: a cell with a frame. */
function strip(values, { mark, name = "", tall = false, limit, groups = 1 } = {}) {
  const largest = limit ?? reach(values);
  const image = pixelImage(1, values.length, (i) => twoSided(values[i] / largest));
  const said = h("output", { class: "said" });
  const canvas = surface(
    (context, width, height) => {
      drawPixels(context, image, 0, 0, width, height);
      context.strokeStyle = colour("panel");
      context.lineWidth = 2;
      for (let g = 1; g < groups; g++) line(context, (g / groups) * width, 0, (g / groups) * width, height);
      if (mark === undefined) return;
      const cell = width / values.length;
      const wide = Math.max(cell, 4);
      context.strokeStyle = colour("ink");
      context.strokeRect((mark + 0.5) * cell - wide / 2, 1, wide, height - 2);
    },
    {
      class: tall ? "strip tall" : "strip",
      "aria-label": t("strip", {
        name,
        count: values.length,
        least: number(Math.min(...values), 2),
        most: number(Math.max(...values), 2),
      }),
      onpointermove: (event) => {
        const i = Math.min(
          Math.max(Math.floor((event.offsetX / canvas.clientWidth) * values.length), 0),
          values.length - 1,
        );
        said.textContent = `${i}: ${number(values[i])}`;
      },
      onpointerleave: () => (said.textContent = ""),
    },
  );
  return h("div", { class: "strip-line" }, h("span", { class: "strip-name" }, rich(name)), canvas, said);
}

/** A matrix (rows, cols) of numbers above and below 0; made once for each array and theme. */
function matrixImage(values, cols) {
  const made = matrices.get(values);
  if (made?.theme === app.theme) return made.image;
  const largest = reach(values) * 0.6;
  const image = pixelImage(values.length / cols, cols, (i) => twoSided(values[i] / largest));
  matrices.set(values, { theme: app.theme, image });
  return image;
}
const matrices = new WeakMap();

/** A part of the page that is drawn again only when something of what it shows has changed. */
function remembering(part, shown, draw) {
  let before = [];
  part.redraw = () => {
    const now = [...shown(), app.theme];
    if (now.length === before.length && now.every((one, i) => one === before[i])) return;
    before = now;
    draw();
  };
  return part;
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

// The image and its tokens

/** Where things are in a square-ish area: the image, and CLS in the corner above it. */
function tokenBoxes(x, y, width, withCls = true) {
  const [rows, cols] = model.grid;
  const top = withCls ? 34 : 0;
  const cellWidth = width / cols;
  const cellHeight = (cellWidth * model.patch[0]) / model.patch[1];
  const box = (token) =>
    token === 0
      ? { x, y, width: 44, height: 26 }
      : {
          x: x + colOf(token) * cellWidth,
          y: y + top + rowOf(token) * cellHeight,
          width: cellWidth,
          height: cellHeight,
        };
  const image = { x, y: y + top, width, height: cellHeight * rows };
  const at = (px, py) => {
    if (withCls && py < y + top) return 0;
    const row = Math.floor((py - image.y) / cellHeight);
    const col = Math.floor((px - x) / cellWidth);
    return 1 + Math.min(Math.max(row, 0), rows - 1) * cols + Math.min(Math.max(col, 0), cols - 1);
  };
  return { box, image, at, height: top + image.height };
}
/** The image with its grid of patches, and whatever `mark` adds; `boxes` tells where things are. */
function patchSurface(mark) {
  const boxes = () => tokenBoxes(0, 0, canvas.clientWidth, false);
  const canvas = surface(
    (context) => {
      const found = boxes();
      drawImage(context, found.image);
      drawGrid(context, found.image);
      mark(context, found);
    },
    { style: `aspect-ratio:${RATIO}`, "aria-hidden": "true", role: "presentation" },
  );
  return { canvas, boxes };
}
/** How high an area of that width is. */
const tokensHeight = (width, withCls = true) => tokenBoxes(0, 0, width, withCls).height;

function drawImage(context, { x, y, width, height }, faint = false) {
  context.save();
  if (faint) context.filter = "grayscale(1) brightness(0.62)";
  const [rows, cols] = model.grid;
  const seen = app.picture;
  const [ph, pw] = model.patch;
  context.imageSmoothingEnabled = width < seen.width;
  context.drawImage(seen, 0, 0, cols * pw, rows * ph, x, y, width, height);
  context.restore();
}

/** Shares of attention (N) over the image and on CLS. */
function drawShares(context, boxes, shares, largest = Math.max(...shares)) {
  const [rows, cols] = model.grid;
  const top = Math.max(largest, 1e-12);
  drawImage(context, boxes.image, true);
  const map = pixelImage(rows, cols, (i) => [
    ...heat(0.25 + (0.75 * shares[i + 1]) / top),
    235 * Math.min((shares[i + 1] / top) ** 0.75, 1),
  ]);
  drawPixels(context, map, boxes.image.x, boxes.image.y, boxes.image.width, boxes.image.height);
  drawCls(context, boxes.box(0), shares[0] / top);
}

function drawCls(context, { x, y, width, height }, share) {
  context.fillStyle = share === undefined ? colour("zero") : rgb(heat(0.08 + 0.92 * share));
  context.beginPath();
  context.roundRect(x, y, width, height, 6);
  context.fill();
  context.strokeStyle = colour("cls");
  context.lineWidth = 1.5;
  context.stroke();
  context.fillStyle = share === undefined ? colour("cls") : share > 0.72 ? "#111" : "#fff";
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText("CLS", x + width / 2, y + height / 2 + 1);
}

function frame(context, { x, y, width, height }, name, thick = 2.5) {
  context.lineWidth = thick + 2;
  context.strokeStyle = "rgba(0,0,0,.55)";
  context.strokeRect(x, y, width, height);
  context.lineWidth = thick;
  context.strokeStyle = colour(name);
  context.strokeRect(x, y, width, height);
}

/**
 * An area over a canvas in which one chooses a token: by pointing, or by the arrow keys. To a screen reader
 * it is a slider, whose value is the token's name and whatever `tell` adds. `press`: called when it is pressed.
 */
function tokenPicker({ name, get, set, boxes, tell = () => "", least = 0, press }) {
  const area = h("div", {
    class: "picker",
    role: "slider",
    tabindex: 0,
    "aria-label": name,
    "aria-valuemin": least,
    "aria-valuemax": PATCHES,
    onpointermove: (event) =>
      event.pointerType === "mouse" && choose(boxes().at(event.offsetX, event.offsetY)),
    onpointerdown: (event) => {
      choose(boxes().at(event.offsetX, event.offsetY));
      press?.(get());
    },
    onkeydown: (event) => {
      const cols = model.grid[1];
      const token = get();
      const to = {
        ArrowLeft: token - 1,
        ArrowRight: token + 1,
        ArrowUp: Math.max(token - cols, least),
        ArrowDown: token === 0 ? 1 : token + cols,
        Home: least,
        End: PATCHES,
      }[event.key];
      if ((event.key === "Enter" || event.key === " ") && press) press(token);
      else if (to === undefined) return;
      else choose(to);
      event.preventDefault();
    },
  });
  const choose = (token) => {
    const bounded = Math.min(Math.max(token, least), PATCHES);
    if (bounded !== get()) set(bounded);
  };
  area.redraw = () => {
    area.setAttribute("aria-valuenow", get());
    area.setAttribute("aria-valuetext", `${tokenName(get())}${tell()}`);
  };
  area.redraw();
  return area;
}

/** A labelled slider; `say` turns its value into words. */
function slider(name, { min, max, step = 1, get, set, say }) {
  const said = h("output", {}, say(get()));
  const input = h("input", {
    type: "range",
    min,
    max,
    step,
    value: get(),
    "aria-valuetext": say(get()),
    oninput: () => {
      set(Number(input.value));
      said.textContent = say(get());
      input.setAttribute("aria-valuetext", say(get()));
    },
  });
  const whole = h("label", { class: "slider" }, h("span", {}, name), input, said);
  whole.redraw = () => {
    input.value = get();
    said.textContent = say(get());
    input.setAttribute("aria-valuetext", say(get()));
  };
  return whole;
}

/** A slider over the whole numbers below `many`, for what app calls `key`. */
const indexSlider = (name, key, many) =>
  slider(name, {
    min: 0,
    max: many - 1,
    get: () => app[key],
    set: (value) => update({ [key]: value }),
    say: String,
  });

/** One of several, as buttons. */
function choice(name, options, get, set) {
  const buttons = options.map(([value, text]) =>
    h("button", { type: "button", onclick: () => set(value), "data-value": value }, text),
  );
  const group = h(
    "div",
    { class: "choice", role: "group", "aria-label": name },
    h("span", { class: "choice-name" }, name),
    buttons,
  );
  group.redraw = () =>
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", options[i][0] === get()));
  group.redraw();
  return group;
}
const numbered = (many) => Array.from({ length: many }, (_, i) => [i, String(i)]);
