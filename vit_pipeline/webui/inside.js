// The inside of the answer: which view, class, map and patch are chosen, and how they are drawn. What is drawn
// comes from the server (inside.py), number by number. Runs once, for whatever answers the element will hold.
const chosen = { view: "evidence", target: 0, method: "gradient-attention", layer: 0, head: -1, token: 0 };
const INFERNO = [[40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];
let image = ""; // of the answer that ``chosen`` belongs to
let asked = 0;
let waiting; // while somebody runs over patches with the arrow keys, only the last one is asked for

const find = (selector) => element.querySelector(`.vp-inside ${selector}`);
const all = (selector) => [...element.querySelectorAll(`.vp-inside ${selector}`)];

function paint(canvas, values) {
  const most = Math.max(...values, 1e-12);
  const pixels = new ImageData(canvas.width, canvas.height);
  values.forEach((value, n) => {
    const level = Math.max(0, value) / most;
    const place = level * (INFERNO.length - 1);
    const low = Math.min(Math.floor(place), INFERNO.length - 2);
    const colour = INFERNO[low].map((c, i) => c + (INFERNO[low + 1][i] - c) * (place - low));
    pixels.data.set([...colour, 217 * level], 4 * n);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.values = values;
}

function lens(bars, list, own) {
  list.replaceChildren(...bars.map(({ label, score, index, after }, n) => {
    const bar = document.createElement("button");
    const percent = `${(100 * score).toFixed(1)}%`;
    Object.assign(bar, { type: "button", title: `${after}: ${label}, ${percent}`, disabled: n === 0 });
    bar.setAttribute("aria-label", bar.title);
    bar.dataset.layer = n - 1;
    bar.style.setProperty("--score", score);
    bar.classList.toggle("vp-own", index === own);
    const name = document.createElement("span"); // once for all layers in a row that say the same
    const next = bars.findIndex((bar, later) => later > n && bar.index !== index);
    if (bars[n - 1]?.index !== index) name.textContent = label;
    name.style.setProperty("--run", (next < 0 ? bars.length : next) - n);
    bar.append(name);
    const item = document.createElement("li");
    item.append(bar);
    return item;
  }));
}

function show() {
  const { view, method, token, target } = chosen;
  for (const part of [find(".vp-given"), find(".vp-caption").firstChild]) part.hidden = view !== "given";
  for (const part of [find(".vp-patches"), find(".vp-caption").lastChild]) part.hidden = view === "given";
  const canvas = find("canvas");
  canvas.hidden = view !== "evidence";
  for (const button of all("[data-view]")) button.setAttribute("aria-pressed", button.dataset.view === view);
  for (const button of all("[data-target]")) button.setAttribute("aria-pressed", +button.dataset.target === target);
  for (const select of all("select")) {
    select.value = chosen[select.name];
    select.disabled = select.name !== "method" && method !== "attention";
  }
  for (const bar of all("[data-layer]")) {
    bar.setAttribute("aria-pressed", method === "attention" && +bar.dataset.layer === chosen.layer);
  }
  const mark = find("i");
  mark.hidden = token === 0 || view !== "evidence";
  mark.style.setProperty("--column", (token - 1) % canvas.width);
  mark.style.setProperty("--row", Math.floor((token - 1) / canvas.width));
  find(".vp-trust").hidden = token > 0 || view !== "evidence";
  find(".vp-said").hidden = view !== "evidence";
}

async function ask(more = {}) {
  const inside = element.querySelector(".vp-inside");
  const list = find(".vp-lens");
  const number = ++asked;
  const wanted = { ...chosen, image, ...inside.dataset, lens: !list.children.length, ...more };
  inside.setAttribute("aria-busy", "true");
  const found = (await server.inside(wanted).catch(() => null)) ?? { problem: inside.dataset.failed };
  if (number !== asked || !inside.isConnected) return;
  inside.removeAttribute("aria-busy");
  if (found.problem) {
    find(".vp-said").innerHTML = found.problem; // written and escaped by the server
    find(".vp-said").hidden = false;
    find("canvas").hidden = true; // it shows what was asked for before
    return;
  }
  if (found.lens) lens(found.lens, list, +inside.dataset.index);
  paint(find("canvas"), found.map);
  const verdict = chosen.method === "attention" && !chosen.token && list.children[chosen.layer + 1].firstChild.title;
  find(".vp-said").textContent = [verdict && `${verdict}.`, found.said, found.trust].filter(Boolean).join(" ");
  show();
}

function choose(changes) {
  Object.assign(chosen, changes);
  show();
  clearTimeout(waiting);
  waiting = setTimeout(ask, 60);
}

function choosePatch(token) {
  const again = token === chosen.token && chosen.view === "evidence";
  choose({ view: "evidence", method: "attention", token: again ? 0 : token });
}

function opened() {
  if (!element.querySelector(".vp-inside")) return;
  const given = find(".vp-patches img").src;
  const layers = find("[name=layer]").options.length;
  if (given !== image) Object.assign(chosen, { target: +element.querySelector(".vp-inside").dataset.index, token: 0 });
  if (!image || chosen.layer >= layers) chosen.layer = layers - 1;
  if (chosen.head >= find("[name=head]").options.length - 1) chosen.head = -1;
  image = given;
  show();
  ask();
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  const patches = event.target.closest(".vp-patches");
  if (patches) {
    const { left, top, width, height } = patches.getBoundingClientRect();
    const { width: columns, height: rows } = find("canvas");
    const column = Math.floor((columns * (event.clientX - left)) / width);
    const row = Math.floor((rows * (event.clientY - top)) / height);
    choosePatch(1 + Math.min(row, rows - 1) * columns + Math.min(column, columns - 1));
  } else if (button?.dataset.view) choose({ view: button.dataset.view });
  else if (button?.dataset.target) {
    const method = ["attention", "rollout"].includes(chosen.method) ? "gradient-attention" : chosen.method; // of no class
    choose({ view: "evidence", target: +button.dataset.target, method, token: 0 });
  }
  else if (button?.dataset.layer) choose({ view: "evidence", method: "attention", layer: +button.dataset.layer });
  else if (button?.matches(".vp-trust")) ask({ trust: true });
});

element.addEventListener("change", ({ target }) => {
  if (target.name === "method") choose({ view: "evidence", method: target.value, token: 0 });
  else if (target.name) choose({ view: "evidence", [target.name]: +target.value });
});

element.addEventListener("keydown", (event) => {
  const patches = event.target.closest(".vp-patches");
  const columns = patches && find("canvas").width;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  if (!patches || !(step || event.key === "Escape")) return;
  event.preventDefault();
  const last = columns * find("canvas").height;
  const token = !step ? 0 : chosen.token === 0 ? 1 : chosen.token + step;
  if (token <= last && token >= 0 && (token > 0 || !step)) choose({ view: "evidence", method: "attention", token });
});

watch("value", opened);
opened();
