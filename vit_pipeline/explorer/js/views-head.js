// One head: who looks at whom, and where the numbers come from.
"use strict";

function viewHead() {
  const controls = h(
    "div",
    { class: "controls" },
    indexSlider(t("layer"), "layer", model.layers),
    choice(
      t("head"),
      numbered(model.heads),
      () => app.head,
      (head) => update({ head }),
    ),
  );
  const pair = pairPicture();
  const numbers = h("div", { class: "fill sums" });
  const full = attentionMatrix();
  return {
    nodes: [
      para("head_intro"),
      controls,
      h(
        "div",
        { class: "side-by-side head-view" },
        h("div", {}, pair),
        h(
          "figure",
          {},
          full,
          h("figcaption", {}, t("matrix_note", { tokens: TOKENS, count: count(TOKENS * TOKENS) })),
        ),
      ),
      numbers,
    ],
    draw() {
      [...controls.children].forEach((control) => control.redraw());
      pair.redraw();
      full.redraw();
      fill(numbers, ...attentionSums());
    },
  };
}

/** Two images: the token that looks, on the left, and lines to what it looks at, on the right. */
function pairPicture() {
  const places = (width) => {
    const gap = Math.min(width * 0.16, 90);
    const side = (width - gap) / 2 - 2;
    return [tokenBoxes(1, 1, side), tokenBoxes(1 + side + gap, 1, side)];
  };
  const canvas = surface(
    (context, width) => {
      const [left, right] = places(width);
      const row = app.now.row(app.layer, app.head, app.token);
      drawImage(context, left.image);
      drawGrid(context, left.image);
      drawCls(context, left.box(0));
      if (!row) {
        drawImage(context, right.image, true);
        frame(context, left.box(app.token), "query");
        return;
      }
      drawShares(context, right, row);
      const middle = (box) => [box.x + box.width / 2, box.y + box.height / 2];
      const largest = Math.max(...row);
      const from = left.box(app.token);
      const start = [from.x + from.width, middle(from)[1]];
      for (const j of ranking(row).slice(0, 24).reverse()) {
        const to = right.box(j);
        const end = [to.x, middle(to)[1]];
        const share = row[j] / largest;
        context.strokeStyle =
          j === app.key ? colour("key") : rgb(heat(0.45 + 0.5 * share), 0.12 + 0.75 * share);
        context.lineWidth = 0.6 + 4.5 * share;
        curve(context, start, end);
      }
      const to = right.box(app.key);
      context.strokeStyle = colour("key");
      context.lineWidth = 2;
      curve(context, start, [to.x, middle(to)[1]]);
      frame(context, from, "query");
      frame(context, to, "key");
    },
    { "aria-label": t("pair") },
  );
  const fit = () => (canvas.style.height = `${places(canvas.clientWidth)[0].height + 2}px`);
  new ResizeObserver(fit).observe(canvas);
  const share = () => app.now.row(app.layer, app.head, app.token)?.[app.key];
  const picker = (side, name, get, set, tell) => {
    const area = tokenPicker({
      name,
      get,
      set,
      tell,
      boxes: () => {
        const found = places(canvas.clientWidth)[side];
        return { at: (x, y) => found.at(x + (side ? found.image.x : 1), y) };
      },
    });
    area.classList.add(side ? "right" : "left");
    return area;
  };
  const left = picker(
    0,
    t("query_picker"),
    () => app.token,
    (token) => update({ token }),
    () => "",
  );
  const right = picker(
    1,
    t("key_picker"),
    () => app.key,
    (key) => update({ key }),
    () => (share() === undefined ? "" : `: ${number(share())}`),
  );
  const whole = h(
    "div",
    {},
    h("div", { class: "pick-on pair" }, canvas, left, right),
    h(
      "div",
      { class: "pair-captions" },
      h("span", { class: "c-query" }, t("query_caption")),
      h("span", { class: "c-key" }, t("key_caption")),
    ),
  );
  whole.redraw = () => (fit(), canvas.redraw(), left.redraw(), right.redraw());
  return whole;
}

function curve(context, [x0, y0], [x1, y1]) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.bezierCurveTo((x0 + x1) / 2, y0, (x0 + x1) / 2, y1, x1, y1);
  context.stroke();
}

/** All N × N shares of this head. Pointing at one chooses both its tokens. */
function attentionMatrix() {
  let drawn = null;
  let image = null;
  const canvas = surface(
    (context, width, height) => {
      const rows = Array.from({ length: TOKENS }, (_, i) => app.now.row(app.layer, app.head, i));
      if (!rows[0]) return drawCrossed(context, { width, height });
      const now = `${app.layer},${app.head}`;
      if (drawn !== now || image.run !== app.now) {
        // Each row to its own largest: a row is one token's shares, and they sum to 1
        const largest = rows.map((row) => row.reduce((a, b) => Math.max(a, b)));
        image = pixelImage(TOKENS, TOKENS, (at) =>
          heat(rows[Math.floor(at / TOKENS)][at % TOKENS] / largest[Math.floor(at / TOKENS)]),
        );
        image.run = app.now;
        drawn = now;
      }
      drawPixels(context, image, 0, 0, width, height);
      const cell = width / TOKENS;
      const tall = height / TOKENS;
      context.lineWidth = 1.5;
      context.strokeStyle = colour("query");
      context.strokeRect(0.75, app.token * tall, width - 1.5, Math.max(tall, 2));
      context.strokeStyle = colour("key");
      context.strokeRect(app.key * cell, 0.75, Math.max(cell, 2), height - 1.5);
    },
    {
      class: "square",
      "aria-label": t("matrix_label", { tokens: TOKENS }),
      onpointermove: (event) => event.pointerType === "mouse" && at(event),
      onpointerdown: (event) => at(event),
    },
  );
  const at = (event) => {
    const place = (offset, whole) => Math.min(Math.max(Math.floor((offset / whole) * TOKENS), 0), TOKENS - 1);
    update({
      token: place(event.offsetY, canvas.clientHeight),
      key: place(event.offsetX, canvas.clientWidth),
    });
  };
  return canvas;
}

/** Score, softmax, weighted sum of token i and token j, each with its formula and its numbers. */
function attentionSums() {
  const { layer: l, head, token: i, key: j } = app;
  const row = app.now.row(l, head, i);
  const step = app.now.steps?.[l];
  const d = model.headWidth;
  const width = model.heads * d;
  if (!row) return [para("layer_dropped", {}, { class: "note" })];
  const place = ranking(row).indexOf(j) + 1;
  const share = h(
    "p",
    { class: "share" },
    h("span", { class: "c-query" }, tokenName(i)),
    " → ",
    h("span", { class: "c-key" }, tokenName(j)),
    " ",
    h(
      "strong",
      { id: "share", "data-layer": l, "data-head": head, "data-query": i, "data-key": j },
      number(row[j]),
    ),
    " ",
    h("small", {}, t("share_rank", { place, tokens: TOKENS, even: number(1 / TOKENS) })),
  );
  if (!step)
    return [
      share,
      para(
        "doubt",
        { doubt: app.now.doubt(l, head, i).toFixed(5), most: app.now.largestDoubt.toFixed(4) },
        { class: "note" },
      ),
      para("not_recorded_qkv", {}, { class: "note" }),
    ];
  const part = (array, token) => array.subarray(token * width + head * d, token * width + head * d + d);
  const [q, k, v] = [part(step.q, i), part(step.k, j), part(step.v, j)];
  const found = part(step.mixed, i);
  const products = q.map((value, c) => value * k[c]);
  const dot = products.reduce((a, b) => a + b, 0);
  const scores = attentionScores(step.q, step.k, i, head, d, width);
  const heatOf = app.changes.temperature;
  const largest = scores.reduce((a, b) => Math.max(a, b));
  const top = Math.exp((scores[j] - largest) / heatOf);
  const bottom = scores.reduce((sum, s) => sum + Math.exp((s - largest) / heatOf), 0);
  const muted = app.changes.muted.includes(`${l},${head}`);
  const limit = reach([...q, ...k]);
  const card = (key, ...inside) => h("section", { class: "sum" }, h("h3", {}, rich(key)), inside);
  return [
    share,
    h(
      "div",
      { class: "three" },
      card(
        "sum_score",
        formula("s = [query:qᵢ] · [key:kⱼ] / √d"),
        strip(q, { name: "[query:qᵢ]", limit }),
        strip(k, { name: "[key:kⱼ]", limit }),
        strip(products, { name: t("products") }),
        formula("{dot} / √{d} = **{score}**", { dot: number(dot, 3), d, score: number(scores[j], 3) }),
        para("score_note", { d }, { class: "note" }),
      ),
      card(
        "sum_softmax",
        formula(`[attention:aᵢⱼ] = ${heatOf === 1 ? "eˢ / Σ eˢ" : "exp(s/T) / Σ exp(s/T)"}`),
        scoreBars(scores, row, j),
        formula("{top} / {bottom} = **{share}**", {
          top: top.toPrecision(4),
          bottom: bottom.toPrecision(4),
          share: number(row[j]),
        }),
        para(
          heatOf === 1 ? "softmax_note" : "softmax_note_t",
          { largest: number(largest, 3), temperature: heatOf.toFixed(2) },
          { class: "note" },
        ),
      ),
      card(
        "sum_weighted",
        formula("[e:oᵢ] = Σⱼ [attention:aᵢⱼ] [value:vⱼ]"),
        strip(v, { name: "[value:vⱼ]", limit: reach(v) }),
        strip(
          v.map((value) => value * row[j]),
          { name: "[attention:aᵢⱼ] [value:vⱼ]", limit: reach(found) },
        ),
        strip(found, { name: "[e:oᵢ]", limit: reach(found) }),
        para(
          muted ? "head_muted" : "weighted_note",
          { share: number(row[j]), tokens: TOKENS },
          { class: "note" },
        ),
      ),
    ),
  ];
}

/** The scores of all tokens, high to low, and the share that softmax makes of each. */
function scoreBars(scores, row, j) {
  const order = ranking(row);
  const largest = row[order[0]];
  return surface(
    (context, width, height) => {
      const cell = width / order.length;
      order.forEach((token, at) => {
        const tall = (row[token] / largest) * (height - 4);
        context.fillStyle = token === j ? colour("key") : colour("attention");
        context.fillRect(at * cell, height - tall, Math.max(cell - 1, 0.7), tall);
      });
    },
    { class: "score-bars", "aria-label": t("score_bars") },
  );
}
