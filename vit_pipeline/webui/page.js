// What Gradio's page lacks: images pasted anywhere, its own few words that it has not translated, and the
// answer scrolled to where it can be seen. Called once with those words: {as Gradio says it: as we say it}.
(words) => {
  const fileInput = () => document.querySelector("#image input[type=file]");

  document.addEventListener("paste", (event) => {
    const image = [...event.clipboardData.files].find((file) => file.type.startsWith("image/"));
    const input = fileInput();
    if (!image || !input) return;
    event.preventDefault();
    const files = new DataTransfer();
    files.items.add(image);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });

  const say = (text) => {
    const plain = text.trim();
    const found = Object.keys(words).find((word) => plain === word || (word.endsWith(" ") && plain.startsWith(word)));
    return found && text.replace(found, words[found]);
  };
  const translate = (node) => {
    if (node.nodeType === Node.TEXT_NODE) {
      const text = say(node.data);
      if (text && !node.parentElement.closest(".prose")) node.data = text;
      return;
    }
    if (node.nodeType !== Node.ELEMENT_NODE || node.classList.contains("prose")) return;
    for (const name of ["aria-label", "title"]) {
      const text = node.hasAttribute(name) && say(node.getAttribute(name));
      if (text) node.setAttribute(name, text);
    }
    node.childNodes.forEach(translate);
  };

  let asked = false;
  for (const kind of ["click", "change", "drop", "paste", "keydown"])
    document.addEventListener(kind, () => (asked = true), true);
  const showAnswer = () => {
    const answer = document.querySelector("#answer");
    if (!asked || !answer || answer.getBoundingClientRect().top < innerHeight * 0.7) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    answer.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
  };

  translate(document.body);
  new MutationObserver((changes) => {
    for (const change of changes) {
      if (change.type === "childList") change.addedNodes.forEach(translate);
      else if (change.type === "attributes" || change.target.parentElement) translate(change.target);
    }
    if (changes.some((change) => change.target.closest?.("#answer") && document.querySelector("#answer .vp-class")))
      showAnswer();
  }).observe(document.body, {
    subtree: true, childList: true, characterData: true, attributeFilter: ["aria-label", "title"],
  });
}
