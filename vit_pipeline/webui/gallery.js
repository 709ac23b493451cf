// Many answers: sorted and filtered in the browser; what was chosen holds while further answers arrive.
const chosen = { sort: "given", label: "", least: "0" };
const orders = {
  given: (a, b) => a.place - b.place,
  most: (a, b) => b.score - a.score,
  least: (a, b) => a.score - b.score,
  class: (a, b) => a.label.localeCompare(b.label) || b.score - a.score,
};

function arrange() {
  const list = element.querySelector(".vp-tiles");
  if (!list) return;
  const label = element.querySelector("[name=label]");
  if (![...label.options].some(({ value }) => value === chosen.label)) chosen.label = "";
  for (const [name, value] of Object.entries(chosen)) element.querySelector(`[name=${name}]`).value = value;
  const tiles = [...list.children].sort((a, b) => orders[chosen.sort](a.dataset, b.dataset));
  for (const tile of tiles) {
    const { label, score } = tile.dataset;
    tile.hidden = (chosen.label && label !== chosen.label) || 100 * score < chosen.least;
  }
  list.append(...tiles);
  element.querySelector(".vp-none").hidden = !tiles.length || tiles.some(({ hidden }) => !hidden);
}

element.addEventListener("input", ({ target }) => {
  if (!(target.name in chosen)) return;
  chosen[target.name] = target.value;
  arrange();
});
watch("value", arrange);
arrange();
