// The structure keeps the place one was at: what was opened or closed stays so in another language, for another
// model, with an image.
const left = new Map(); // a branch's path → whether it was open

function restore() {
  for (const branch of element.querySelectorAll("details")) {
    if (left.has(branch.dataset.path)) branch.open = left.get(branch.dataset.path);
  }
}

element.addEventListener("toggle", ({ target }) => {
  if (target.isConnected) left.set(target.dataset.path, target.open);
}, true);
watch("value", restore);
restore();
