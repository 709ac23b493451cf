// What Gradio's page lacks: its state in the address, images pasted anywhere, and the answer scrolled to where
// it can be seen. Called once; the page's events call the functions of `vp`.
() => {
  const write = (changes) => {
    const address = new URL(location.href);
    for (const [name, value] of Object.entries(changes)) address.searchParams.set(name, value);
    history.replaceState(history.state, "", address);
  };

  window.vp = {
    opened: () => {
      const { lang, model, tab, top_k } = Object.fromEntries(new URLSearchParams(location.search));
      return [{ lang, model, tab, top_k, language: navigator.language, origin: location.origin }];
    },
    address: (lang, model, top_k) => {
      document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
      write({ lang, model, top_k });
    },
    tab: (tab) => write({ tab }),
    show: () => {
      const answer = document.querySelector("#answer");
      if (!answer?.querySelector(".vp-class") || answer.getBoundingClientRect().top < innerHeight * 0.7) return;
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      answer.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
    },
  };

  const name = (image) => {  // Gradio's examples have none
    const button = image.closest?.(".gallery-item");
    if (button) button.ariaLabel = decodeURIComponent(image.src).split("/").pop();
  };
  document.querySelectorAll(".gallery-item img").forEach(name);
  document.addEventListener("load", (event) => name(event.target), true);

  document.addEventListener("paste", (event) => {
    const image = [...event.clipboardData.files].find((file) => file.type.startsWith("image/"));
    const input = document.querySelector("#image input[type=file]");
    if (!image || !input) return;
    event.preventDefault();
    const files = new DataTransfer();
    files.items.add(image);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
