// From the image to tokens: cutting it into patches, embedding them, adding positions.
"use strict";

/** The numbers of one patch as the model takes them: (3·P·P), colour by colour. */
function patchNumbers(place) {
  const size = 3 * model.patch[0] * model.patch[1];
  return app.now.patches
    ? slice(app.now.patches, place, size)
    : app.patches && slice(app.patches, place, size);
}

/** A patch, enlarged; the numbers of the pixel that is pointed at. */
function patchZoom() {
  const [height, width] = model.patch;
  const said = h("output", { class: "said block" });
  const canvas = surface(
    (context, w, hh) => {
      const place = Math.max(app.token, 1) - 1;
      const row = Math.floor(place / model.grid[1]);
      const col = place % model.grid[1];
      context.imageSmoothingEnabled = false;
      context.drawImage(app.picture, col * width, row * height, width, height, 0, 0, w, hh);
      context.strokeStyle = "rgba(128,128,128,.35)";
      context.lineWidth = 1;
      for (let i = 1; i < width; i++) line(context, (i / width) * w, 0, (i / width) * w, hh);
      for (let i = 1; i < height; i++) line(context, 0, (i / height) * hh, w, (i / height) * hh);
    },
    {
      class: "zoom",
      style: `aspect-ratio:${width}/${height}`,
      "aria-label": t("patch_zoom"),
      onpointermove: (event) => {
        const x = Math.min(Math.floor((event.offsetX / canvas.clientWidth) * width), width - 1);
        const y = Math.min(Math.floor((event.offsetY / canvas.clientHeight) * height), height - 1);
        const values = patchNumbers(Math.max(app.token, 1) - 1);
        if (!values) return;
        const three = [0, 1, 2].map((colour) => values[colour * height * width + y * width + x]);
        const bytes = three.map((value, i) =>
          Math.round((value - model.pixels.shift[i]) / model.pixels.scale[i]),
        );
        said.textContent = t("pixel", {
          bytes: bytes.join(", "),
          values: three.map((value) => number(value, 3)).join(", "),
        });
      },
    },
  );
  return { canvas, said };
}

/** The image with one patch chosen. */
function patchChooser() {
  const { canvas, boxes } = patchSurface((context, found) =>
    frame(context, found.box(Math.max(app.token, 1)), "query"),
  );
  const picker = tokenPicker({
    name: t("choose_patch"),
    least: 1,
    get: () => Math.max(app.token, 1),
    set: (token) => update({ token }),
    boxes,
  });
  const whole = h("div", { class: "pick-on" }, canvas, picker);
  whole.redraw = () => (canvas.redraw(), picker.redraw());
  return whole;
}

function drawGrid(context, { x, y, width, height }) {
  const [rows, cols] = model.grid;
  context.strokeStyle = "rgba(255,255,255,.45)";
  context.lineWidth = 1;
  for (let c = 1; c < cols; c++) line(context, x + (c / cols) * width, y, x + (c / cols) * width, y + height);
  for (let r = 1; r < rows; r++)
    line(context, x, y + (r / rows) * height, x + width, y + (r / rows) * height);
}

/** The patches on their way from the image (cut 0) apart (½) into one sequence (1). */
function drawCut(context, width, height, cut, numbers = true) {
  const [rows, cols] = model.grid;
  const [ph, pw] = model.patch;
  const apart = Math.min(cut * 2, 1);
  const inLine = Math.max(cut * 2 - 1, 0);
  const ease = (x) => x * x * (3 - 2 * x);
  const side = Math.min(width / cols, (height / rows) * (pw / ph)) * (1 - 0.18 * ease(apart));
  const tall = (side * ph) / pw;
  const gap = side * 0.2 * ease(apart);
  const wholeWidth = cols * side + (cols - 1) * gap;
  const wholeHeight = rows * tall + (rows - 1) * gap;
  const perLine = Math.max(1, Math.floor(width / Math.max(width / Math.min(PATCHES, 34), 11)));
  const small = (width / perLine) * 0.86;
  const lines = Math.ceil(PATCHES / perLine);
  const step = Math.min((small * ph) / pw + 16, height / lines);
  context.imageSmoothingEnabled = false;
  for (let place = 0; place < PATCHES; place++) {
    const row = Math.floor(place / cols);
    const col = place % cols;
    const from = {
      x: (width - wholeWidth) / 2 + col * (side + gap),
      y: (height - wholeHeight) / 2 + row * (tall + gap),
      w: side,
    };
    const to = {
      x: ((place % perLine) + 0.07) * (width / perLine),
      y: (height - lines * step) / 2 + Math.floor(place / perLine) * step,
      w: small,
    };
    // Patches leave one after another: the sequence is read row by row
    const moved = ease(Math.min(Math.max(inLine * 2 - place / PATCHES, 0), 1));
    const mix = (a, b) => a + (b - a) * moved;
    const x = mix(from.x, to.x);
    const y = mix(from.y, to.y);
    const w = mix(from.w, to.w);
    const tallNow = (w * ph) / pw;
    context.drawImage(
      app.picture,
      col * pw,
      row * ph,
      pw,
      ph,
      x,
      y,
      w + (cut ? 0 : 0.6),
      tallNow + (cut ? 0 : 0.6),
    );
    if (numbers && place + 1 === app.token) frame(context, { x, y, width: w, height: tallNow }, "query", 2);
    if (numbers && moved > 0.95 && step > (small * ph) / pw + 11 && small > 15) {
      context.fillStyle = colour("soft");
      context.font = "9.5px system-ui, sans-serif";
      context.textAlign = "center";
      context.fillText(place + 1, x + w / 2, y + tallNow + 10);
    }
  }
}

function viewPatches() {
  const canvas = surface((context, width, height) => drawCut(context, width, height, app.cut), {
    class: "cut",
    "aria-label": t("cut_picture", { count: PATCHES }),
  });
  const cut = slider(t("cut"), {
    min: 0,
    max: 1,
    step: 0.01,
    get: () => app.cut,
    set: (value) => update({ cut: value }),
    say: (x) => t(x < 0.05 ? "cut_whole" : x < 0.6 ? "cut_apart" : "cut_line"),
  });
  const chooser = patchChooser();
  const zoom = patchZoom();
  const numbers = h("div", { class: "fill" });
  return {
    nodes: [
      para("patches_intro", {
        height: model.patch[0],
        width: model.patch[1],
        count: PATCHES,
        pixels: count(app.picture.width * app.picture.height),
        rows: model.grid[0],
        cols: model.grid[1],
      }),
      canvas,
      cut,
      h("h3", {}, t("one_patch")),
      h(
        "div",
        { class: "side-by-side three-cols" },
        h("figure", {}, chooser, h("figcaption", {}, t("choose_patch"))),
        h("figure", {}, zoom.canvas, zoom.said),
        numbers,
      ),
    ],
    draw() {
      canvas.redraw();
      cut.redraw();
      chooser.redraw();
      zoom.canvas.redraw();
      const values = patchNumbers(Math.max(app.token, 1) - 1);
      const size = model.patch[0] * model.patch[1];
      const limit = values && Math.max(...numbered(PATCHES).map(([i]) => reach(patchNumbers(i))));
      fill(
        numbers,
        para("patch_numbers", { token: tokenName(Math.max(app.token, 1)), pixels: size, count: 3 * size }),
        ...(values
          ? ["red", "green", "blue"].map((name, i) => strip(slice(values, i, size), { name: t(name), limit }))
          : []),
      );
    },
  };
}

/** A filter or a patch as an image, (P, P, 3) around gray. */
function signedImage(values, limit = reach(values)) {
  const [height, width] = model.patch;
  const size = height * width;
  return pixelImage(height, width, (i) =>
    [0, 1, 2].map((c) => Math.round(127.5 + (127.5 * values[c * size + i]) / limit)),
  );
}
function tile(image, name, text) {
  const canvas = surface((context, width, height) => drawPixels(context, image, 0, 0, width, height), {
    style: `aspect-ratio:${image.width}/${image.height}`,
    "aria-label": name,
  });
  return h("figure", { class: "tile" }, canvas, h("figcaption", {}, text ?? name));
}

function viewEmbedding() {
  const chooser = patchChooser();
  const numbers = h("div", { class: "fill" });
  const dimension = indexSlider(t("dimension"), "dim", model.width);
  const matrix = surface(
    (context, width, height) => {
      drawPixels(context, matrixImage(app.now.embedded, model.width), 0, 0, width, height);
      const cell = height / PATCHES;
      const token = Math.max(app.token, 1) - 1;
      frame(context, { x: 1, y: token * cell, width: width - 2, height: Math.max(cell, 3) }, "query", 1.5);
    },
    { class: "matrix", "aria-label": t("embedded_matrix", { rows: PATCHES, cols: model.width }) },
  );
  const filters = h(
    "div",
    { class: "gallery" },
    app.filters.map((image, i) => tile(image, t("filter", { number: i + 1 }), "")),
  );
  return {
    nodes: [
      para("embedding_intro", { from: 3 * model.patch[0] * model.patch[1], to: model.width }),
      h(
        "div",
        { class: "side-by-side wide-right" },
        h("figure", {}, chooser, h("figcaption", {}, t("choose_patch"))),
        h("div", {}, dimension, numbers),
      ),
      h("h3", {}, t("all_embedded", { rows: PATCHES, cols: model.width })),
      matrix,
      para("embedded_note", {}, { class: "note" }),
      h("h3", {}, t("filters")),
      filters,
      para("filters_note", { count: app.filters.length }, { class: "note" }),
    ],
    draw() {
      chooser.redraw();
      dimension.redraw();
      matrix.redraw();
      const place = Math.max(app.token, 1) - 1;
      const x = patchNumbers(place);
      const e = slice(app.now.embedded, place, model.width);
      const weights = app.weights?.["vit.embeddings.patch_embeddings.projection.weight"];
      const parts = [formula("[x:x]ᵀ · [w:W{d}] + b{d} = [e:e{d}]", { d: sub(app.dim) })];
      if (weights) {
        const w = slice(weights, app.dim, x.length);
        const bias = app.weights["vit.embeddings.patch_embeddings.projection.bias"][app.dim];
        const product = x.reduce((sum, value, i) => sum + value * w[i], 0);
        parts.push(
          h(
            "div",
            { class: "equation" },
            tile(signedImage(x), t("patch_x"), h("span", { class: "c-x" }, "x")),
            h("b", {}, "·"),
            tile(
              signedImage(w),
              t("filter_w", { dim: app.dim }),
              h("span", { class: "c-w" }, `W${sub(app.dim)}`),
            ),
            h("b", {}, "+"),
            h("span", { class: "value" }, number(bias), h("small", {}, `b${sub(app.dim)}`)),
            h("b", {}, "="),
            h("span", { class: "value c-e" }, number(e[app.dim]), h("small", {}, `e${sub(app.dim)}`)),
          ),
          para("embedding_sum", {
            count: x.length,
            product: number(product),
            bias: inFormula(bias),
            result: number(e[app.dim]),
          }),
        );
      } else parts.push(para("no_weights", {}, { class: "note" }));
      parts.push(
        strip(e, { mark: app.dim, tall: true, name: t("embedding_of", { token: tokenName(place + 1) }) }),
      );
      fill(numbers, ...parts);
    },
  };
}

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";
const sub = (value) => String(value).replace(/\d/g, (digit) => SUBSCRIPTS[digit]);
/** A formula in plain type; coloured parts as in rich(). */
const formula = (template, values = {}) => h("p", { class: "formula" }, rich(template, values));

function viewPositions() {
  const token = () => Math.max(app.token, 1);
  const chooser = patchChooser();
  const sums = h("div", { class: "fill" });
  const { mirrored, neighbour, best, rows, cols } = app.positions;
  const mapOf = (place) => {
    const row = slice(app.similarity, place, PATCHES);
    const [least, most] = [
      row.reduce((a, b) => Math.min(a, b)),
      row.reduce((a, b, i) => (i === place ? a : Math.max(a, b)), -1),
    ];
    return pixelImage(rows, cols, (i) => heat((row[i] - least) / Math.max(most - least, 1e-9)));
  };
  const maps = Array.from({ length: PATCHES }, (_, place) => mapOf(place));
  const atlas = surface(
    (context, width, height) => {
      const w = width / cols;
      const hh = height / rows;
      const gap = Math.max(1, w * 0.06);
      maps.forEach((map, i) =>
        drawPixels(
          context,
          map,
          (i % cols) * w + gap / 2,
          Math.floor(i / cols) * hh + gap / 2,
          w - gap,
          hh - gap,
        ),
      );
      const i = token() - 1;
      frame(
        context,
        { x: (i % cols) * w + 1, y: Math.floor(i / cols) * hh + 1, width: w - 2, height: hh - 2 },
        "query",
        2,
      );
    },
    { style: `aspect-ratio:${RATIO}`, "aria-label": t("atlas") },
  );
  const big = surface(
    (context, width, height) => {
      const i = token() - 1;
      const w = width / cols;
      const hh = height / rows;
      drawPixels(context, maps[i], 0, 0, width, height);
      frame(context, { x: (i % cols) * w, y: Math.floor(i / cols) * hh, width: w, height: hh }, "query");
      frame(
        context,
        { x: (best[i] % cols) * w, y: Math.floor(best[i] / cols) * hh, width: w, height: hh },
        "key",
      );
    },
    { style: `aspect-ratio:${RATIO}`, "aria-label": t("one_position") },
  );
  const said = h("p", { class: "note", "aria-live": "polite" });
  const kind =
    mirrored > PATCHES / 2
      ? "positions_mirrored"
      : neighbour > PATCHES / 2
        ? "positions_neighbours"
        : "positions_neither";
  return {
    nodes: [
      para("positions_intro", { tokens: TOKENS, width: model.width }),
      h(
        "div",
        { class: "side-by-side wide-right" },
        h("figure", {}, chooser, h("figcaption", {}, t("choose_patch"))),
        sums,
      ),
      h("h3", {}, t("positions_alike")),
      para("positions_note"),
      h(
        "div",
        { class: "side-by-side" },
        h("figure", {}, big, h("figcaption", {}, t("one_position"))),
        h("figure", {}, atlas, h("figcaption", {}, t("atlas"))),
      ),
      said,
      para(kind, { mirrored, neighbour, count: PATCHES }),
    ],
    draw() {
      chooser.redraw();
      atlas.redraw();
      big.redraw();
      const e = slice(app.now.embedded, token() - 1, model.width);
      const sum = slice(app.now.placed, token(), model.width);
      const p = sum.map((value, i) => value - e[i]);
      const limit = reach([...e, ...p, ...sum]);
      fill(
        sums,
        formula("[e:e] + [p:p] = [x:x⁰]"),
        strip(e, { name: t("embedding_e"), limit, tall: true }),
        strip(p, { name: t("position_p"), limit, tall: true }),
        strip(sum, { name: t("sum_x"), limit, tall: true }),
        para(
          "lengths",
          { e: number(length(e), 2), p: number(length(p), 2), sum: number(length(sum), 2) },
          { class: "note" },
        ),
      );
      const near = best[token() - 1] + 1;
      const alike = slice(app.similarity, token() - 1, PATCHES)[near - 1];
      fill(
        said,
        ...rich("most_alike", {
          token: tokenName(token()),
          other: tokenName(near),
          cosine: number(alike, 3),
        }),
      );
    },
  };
}
