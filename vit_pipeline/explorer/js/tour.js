// The guided tour: at each station a question, and only then a look at the answer, which is computed from
// this image and this model.
"use strict";

/**
 * key: of its words in text.toml; live: whether it needs the model; at: what the reader looks at;
 * ask: what fills the words, the options (words or keys), which is right; show: what changes when answered.
 */
const STATIONS = [
  {
    key: "patches",
    at: () => ({ stage: "patches", cut: 0 }),
    show: () => ({ cut: 0.55 }),
    ask() {
      const [rows, cols] = model.grid;
      const pixels = app.picture.width * app.picture.height;
      return {
        values: {
          height: model.patch[0],
          width: model.patch[1],
          tall: app.picture.height,
          wide: app.picture.width,
          rows,
          cols,
          count: PATCHES,
        },
        options: [rows + cols, PATCHES, pixels].map(count),
        right: 1,
      };
    },
  },
  {
    key: "embedding",
    at: () => ({ stage: "embedding", token: middlePatch() }),
    ask: () => ({
      values: { from: 3 * model.patch[0] * model.patch[1], to: model.width },
      options: ["tour_embedding_a", "tour_embedding_b"],
      right: 0,
    }),
  },
  {
    key: "positions",
    at: () => ({ stage: "positions", token: tellingPlace() }),
    ask() {
      const { best, cols } = app.positions;
      const place = tellingPlace() - 1;
      const mirror = place - (place % cols) + cols - 1 - (place % cols);
      const near =
        Math.max(
          Math.abs(rowOf(best[place] + 1) - rowOf(place + 1)),
          Math.abs(colOf(best[place] + 1) - colOf(place + 1)),
        ) === 1;
      return {
        values: {
          token: tokenName(place + 1),
          other: tokenName(best[place] + 1),
          mirrored: app.positions.mirrored,
          neighbour: app.positions.neighbour,
          count: PATCHES,
        },
        options: ["tour_positions_a", "tour_positions_b", "tour_positions_c"],
        right: best[place] === mirror ? 1 : near ? 0 : 2,
      };
    },
  },
  {
    key: "shuffle",
    live: true,
    at: () => ({ stage: "patches", cut: 0.3 }),
    async ask() {
      const zero = { ...untouched(), zeroPositions: true };
      const both = { ...zero, order: shuffled(PATCHES) };
      const [a, b] = [
        await app.engine("forward", app.bytes, zero),
        await app.engine("forward", app.bytes, both),
      ].map((trace) => trace.lens[model.layers]);
      const off = a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
      return {
        values: { off: off ? off.toExponential(0) : "0", label: label(ranking(b)[0]) },
        options: ["tour_shuffle_a", "tour_shuffle_b", "tour_shuffle_c"],
        right: 0,
        changes: both,
      };
    },
  },
  {
    key: "cls",
    at: () => ({ stage: "layers", token: 0 }),
    ask: () => ({
      values: { tokens: TOKENS, count: PATCHES },
      options: ["tour_cls_a", "tour_cls_b", "tour_cls_c"],
      right: 2,
    }),
  },
  {
    key: "share",
    at: () => ({ stage: "head", layer: model.layers - 1, head: sharpestHead(), token: 0 }),
    show: () => ({ key: favourite(model.layers - 1, sharpestHead()) }),
    ask() {
      const layer = model.layers - 1;
      const head = sharpestHead();
      const row = app.now.row(layer, head, 0);
      const most = row[favourite(layer, head)];
      const even = 1 / TOKENS;
      const options = [even, (even + most) / 2, most];
      return {
        values: {
          layer,
          head,
          even: percent(even),
          most: percent(most),
          times: (most / even).toFixed(0),
          place: tokenName(favourite(layer, head)),
        },
        options: options.map((share) => `≈ ${percent(share)}`),
        right: 2,
      };
    },
  },
  {
    key: "heads",
    at: () => ({ stage: "layer", block: "heads", layer: model.layers - 1, token: 0 }),
    ask() {
      const layer = model.layers - 1;
      const favourites = numbered(model.heads).map(([head]) => favourite(layer, head));
      const different = new Set(favourites).size;
      const options = [...new Set([1, different, model.heads, Math.max(2, Math.round(model.heads / 2))])]
        .sort((a, b) => a - b)
        .slice(0, 4);
      return {
        values: {
          heads: model.heads,
          layer,
          different,
          places: [...new Set(favourites)].slice(0, 4).map(tokenName).join(t("list")),
        },
        options: options.map(String),
        right: options.indexOf(different),
      };
    },
  },
  {
    key: "mlp",
    at: () => ({ stage: "layer", block: "gelu", token: middlePatch() }),
    ask: () => ({
      values: { wide: model.mlpWidth, width: model.width },
      options: ["tour_mlp_a", "tour_mlp_b"],
      right: 1,
    }),
  },
  {
    key: "residual",
    at: () => ({ stage: "layer", block: "add1", layer: 1 % model.layers, token: 0 }),
    ask() {
      const layer = 1 % model.layers;
      const [before, adds] = app.now.norms(layer, 0);
      return {
        values: { layer, before: number(before, 2), adds: number(adds, 2) },
        options: ["tour_residual_a", "tour_residual_b"],
        right: before >= adds ? 0 : 1,
      };
    },
  },
  {
    key: "lens",
    classes: true,
    at: () => ({ stage: "output", after: model.layers }),
    show: () => ({ after: middleLayer() }),
    ask() {
      const at = ranking(app.now.scores(middleLayer()));
      const end = ranking(app.now.scores());
      const options = [...new Set([at[0], end[0], at[1], end[1], end[2]])].slice(0, 3).sort((a, b) => a - b);
      return {
        values: {
          layer: middleLayer() - 1,
          said: label(at[0]),
          score: percent(app.now.scores(middleLayer())[at[0]]),
          final: label(end[0]),
        },
        options: options.map(label),
        right: options.indexOf(at[0]),
      };
    },
  },
  {
    key: "softmax",
    softmax: true,
    at: () => ({ stage: "output", after: model.layers }),
    ask() {
      const logits = app.now.logits();
      const [a, b] = ranking(logits);
      const gap = logits[a] - logits[b];
      const options = [gap / 2, gap, Math.exp(gap)].map((times) => `${times.toFixed(1)} ×`);
      return {
        values: {
          a: label(a),
          b: label(b),
          za: number(logits[a], 2),
          zb: number(logits[b], 2),
          gap: number(gap, 2),
          times: Math.exp(gap).toFixed(1),
          temperature: given.live
            ? t("tour_softmax_temperature", { times: Math.exp(gap / 2).toFixed(1) })
            : "",
        },
        options,
        right: 2,
      };
    },
  },
  {
    key: "gray",
    live: true,
    at: () => ({ stage: "head", layer: model.layers - 1, head: sharpestHead(), token: 0 }),
    async ask() {
      const layer = model.layers - 1;
      const best = ranking(app.base.scores())[0];
      const before = app.base.scores()[best];
      // Of the heads' favourite patches, the one that the decision needs least
      const tries = [];
      for (let head = 0; head < model.heads; head++) {
        const place = favourite(layer, head);
        const changes = { ...untouched(), gray: [place - 1] };
        const after = liveRun(await app.engine("forward", app.bytes, changes)).scores()[best];
        tries.push({ head, place, changes, after });
      }
      const least = tries.reduce((a, b) => (b.after > a.after ? b : a));
      const { head, place, changes, after } = least;
      update({ head });
      const share = app.base.row(layer, head, 0)[place];
      return {
        values: {
          head,
          layer,
          place: tokenName(place),
          share: percent(share),
          times: (share * TOKENS).toFixed(0),
          label: label(best),
          before: percent(before),
          half: percent(before / 2),
          after: percent(after),
          count: PATCHES,
        },
        options: ["tour_gray_a", "tour_gray_b", "tour_gray_c"],
        right: after > before + 0.0005 ? 2 : after < before / 2 ? 0 : 1,
        changes,
      };
    },
  },
  {
    key: "layer",
    live: true,
    at: () => ({ stage: "layers", token: 0 }),
    async ask() {
      const some = [...new Set([0, Math.floor(model.layers / 2), model.layers - 1])];
      const best = ranking(app.base.scores())[0];
      const left = [];
      for (const layer of some)
        left.push(
          liveRun(await app.engine("forward", app.bytes, { ...untouched(), dropped: [layer] })).scores()[
            best
          ],
        );
      const worst = left.indexOf(Math.min(...left));
      return {
        values: {
          label: label(best),
          found: some
            .map((layer, i) => t("tour_layer_found", { layer, share: percent(left[i]) }))
            .join(t("list")),
        },
        options: some.map((layer) => t("layer_n", { layer })),
        right: worst,
        changes: { ...untouched(), dropped: [some[worst]] },
      };
    },
  },
];

const favourite = (layer, head) => 1 + ranking(app.now.row(layer, head, 0).subarray(1))[0];
const sharpestHead = () => {
  const most = numbered(model.heads).map(
    ([head]) => app.now.row(model.layers - 1, head, 0)[favourite(model.layers - 1, head)],
  );
  return most.indexOf(Math.max(...most));
};
const middlePatch = () => 1 + Math.floor(model.grid[0] / 2) * model.grid[1] + Math.floor(model.grid[1] / 2);
/** The last layer after which the model would have said something else than in the end; or one halfway. */
const middleLayer = () => {
  const said = (after) => ranking(app.now.scores(after))[0];
  const others = numbered(model.layers).filter(([after]) => after && said(after) !== said(model.layers));
  return others.length ? others.at(-1)[0] : Math.max(1, Math.floor(model.layers / 2));
};
/** A patch near the left edge, whose mirror image is not its neighbour. */
const tellingPlace = () => 1 + Math.floor(model.grid[0] / 2) * model.grid[1] + Math.min(1, model.grid[1] - 1);
const stations = () =>
  STATIONS.filter(
    (one) => (given.live || !one.live) && (CLASSES || !one.classes) && (!one.softmax || isSoftmax()),
  );

async function startTour(at = 0) {
  app.tour = { at, question: null, answer: null, right: 0 };
  await arrive(at);
}
async function endTour() {
  app.tour = null;
  if (given.live && isChanged()) await reset();
  paint();
}

/** At a station: everything as it was, the question, and what it is about behind a veil. */
async function arrive(at) {
  const tour = app.tour;
  const station = stations()[at];
  Object.assign(tour, { at, question: null, answer: null });
  if (given.live && isChanged()) await reset();
  update(station.at());
  const question = await station.ask();
  if (app.tour !== tour || tour.at !== at) return;
  tour.question = question;
  paint();
}

async function answer(index) {
  const { tour } = app;
  const station = stations()[tour.at];
  if (tour.answer !== null) return;
  tour.answer = index;
  tour.right += index === tour.question.right;
  if (station.show) update(station.show());
  if (tour.question.changes) change(tour.question.changes);
  paint();
}

function tourPanel() {
  const panel = h("section", { class: "panel tour", "aria-label": t("mode_tour"), hidden: true });
  let shown = "";
  panel.redraw = () => {
    const { tour } = app;
    panel.hidden = !tour;
    const all = stations();
    const state = tour && `${tour.at}/${tour.question ? 1 : 0}/${tour.answer}`;
    if (state === shown) return;
    const moved = shown && state && state.split("/")[0] !== shown.split("/")[0];
    shown = state;
    const isAsked = Boolean(tour && tour.answer === null);
    document.getElementById("detail").classList.toggle("veiled", isAsked);
    document.getElementById("detail").inert = isAsked;
    document.body.classList.toggle("asked", isAsked);
    if (!tour) return;
    const { key } = all[tour.at];
    const { question } = tour;
    const last = tour.at === all.length - 1;
    const isAnswered = tour.answer !== null;
    const look = (i) =>
      !isAnswered ? "" : i === question.right ? "right" : i === tour.answer ? "wrong" : "";
    const options = question?.options.map((option, i) =>
      h(
        "button",
        {
          type: "button",
          class: `option ${look(i)}`,
          "aria-disabled": isAnswered,
          "aria-pressed": tour.answer === i,
          onclick: () => answer(i),
        },
        h(
          "i",
          { "aria-hidden": "true" },
          isAnswered && i === question.right
            ? "✓"
            : isAnswered && i === tour.answer
              ? "✗"
              : String.fromCharCode(65 + i),
        ),
        words[option] ? t(option, question.values) : option,
      ),
    );
    const heading = h("h2", { tabindex: -1 }, t(`tour_${key}_title`));
    const verdict =
      isAnswered &&
      h(
        "div",
        { class: "answer", tabindex: -1 },
        h(
          "p",
          {},
          h("strong", {}, t(tour.answer === question.right ? "right" : "wrong")),
          " ",
          rich(
            `tour_${key}_answer${words[`tour_${key}_answer_${question.right}`] ? `_${question.right}` : ""}`,
            question.values,
          ),
        ),
      );
    const next = h(
      "button",
      { type: "button", class: "primary", onclick: () => (last ? endTour() : arrive(tour.at + 1)) },
      t(last ? "tour_end" : "tour_next"),
    );
    fill(
      panel,
      h(
        "header",
        {},
        h(
          "span",
          { class: "dots", "aria-hidden": "true" },
          all.map((_, i) => h("i", { class: i === tour.at ? "at" : i < tour.at ? "past" : "" })),
        ),
        h("span", { class: "station" }, t("station", { at: tour.at + 1, of: all.length })),
        h("button", { type: "button", class: "close", onclick: endTour }, t("tour_leave")),
      ),
      heading,
      question ? para(`tour_${key}_text`, question.values) : null,
      question
        ? h("p", { class: "question" }, rich(`tour_${key}_question`, question.values))
        : h("p", { class: "question" }, t("computing")),
      question ? h("div", { class: "options", role: "group", "aria-label": t("question") }, options) : null,
      verdict || null,
      h(
        "nav",
        { "aria-label": t("mode_tour") },
        tour.at ? h("button", { type: "button", onclick: () => arrive(tour.at - 1) }, t("tour_back")) : null,
        isAnswered ? next : h("small", {}, t("predict_first")),
        last && isAnswered
          ? h("span", { class: "score" }, t("tour_score", { right: tour.right, of: all.length }))
          : null,
      ),
    );
    // The question at the top of the screen; then the answer, so that what it is about comes into sight
    if (isAnswered) {
      const answered = panel.querySelector(".answer");
      answered.focus({ preventScroll: true });
      if (document.getElementById("detail").getBoundingClientRect().top > innerHeight * 0.6)
        answered.scrollIntoView({ block: "start" });
    } else if (moved) {
      heading.focus({ preventScroll: true });
      const { top, bottom } = panel.getBoundingClientRect();
      if (top < 0 || bottom > innerHeight) panel.scrollIntoView({ block: "start" });
    }
  };
  return panel;
}
