// What Gradio's page lacks: its state in the address, Back and Forward, images dropped and pasted anywhere, files
// that are too large said so at once, and the answer scrolled to where it can be seen. Called once; the page's
// events call the functions of `vp`.
() => {
  const query = () => Object.fromEntries(new URLSearchParams(location.search));
  const address = (changes) => {
    const found = new URL(location.href);
    for (const [name, value] of Object.entries(changes)) found.searchParams.set(name, value);
    return found;
  };
  const say = (what) => {
    const notice = document.querySelector("#notice"); // it stays when its words come in another language
    if (what) notice.dataset.say = what;
    else delete notice.dataset.say;
  };

  let arrived = false;
  const arrive = () => {  // Gradio opens the page anew when the server was restarted: nothing is in it
    arrived = true;
    const server = `${gradio_config.app_id}`;
    if (![undefined, server].includes(sessionStorage.server)) say("restarted");
    sessionStorage.server = server;
  };

  window.vp = {
    opened: () => {
      const { lang, model, tab, top_k } = query();
      return [{ lang, model, tab, top_k, language: navigator.language, origin: location.origin }];
    },
    address: (lang, model, top_k) => {
      document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
      history.replaceState(history.state, "", address({ lang, model, top_k: Math.min(Math.max(+top_k || 1, 1), 10) }));
      if (!arrived) arrive();
    },
    show: () => {
      const answer = document.querySelector("#answer");
      if (!answer?.querySelector(".vp-class") || answer.getBoundingClientRect().top < innerHeight * 0.7) return;
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      answer.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
    },
  };
  document.addEventListener("click", ({ target, isTrusted }) => { // Gradio's own event comes later, and out of turn
    const tab = target.closest?.("[role=tab]")?.id.match(/^tab-(\w+)-button$/)?.[1];
    const moved = isTrusted && tab && tab !== (query().tab ?? "classify");
    if (moved) history.pushState(history.state, "", address({ tab }));
  });
  addEventListener("popstate", () => document.querySelector(`#tab-${query().tab ?? "classify"}-button`)?.click());

  const put = (input, files) => {
    const data = new DataTransfer();
    // What is no image by its name or type may be one all the same: the server looks into it.
    for (const file of files) data.items.add(file.type ? file : new File([file], file.name, { type: "image/png" }));
    input.files = data.files;
  };
  const give = (file) => {
    const input = document.querySelector("#image input[type=file]");
    if (!file || !input) return;
    put(input, [file]);
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const chosen = (event) => {
    const input = event.target;
    if (input.type !== "file") return;
    const { most } = document.querySelector("#notice .vp-message").dataset;
    const fit = [...input.files].filter(({ size }) => size <= most);
    say(fit.length < input.files.length && "too_large");
    put(input, fit);
    if (!fit.length) event.stopImmediatePropagation();
  };
  document.addEventListener("change", chosen, true);
  document.addEventListener("paste", (event) => {
    const image = [...event.clipboardData.files].find((file) => file.type.startsWith("image/"));
    if (image) event.preventDefault();
    give(image);
  });
  const dropped = (event) => {
    if (!event.dataTransfer.types.includes("Files") || event.target.closest("#files")) return;
    event.preventDefault(); // or the browser leaves the page for the file
    event.stopPropagation();
    if (event.type === "drop") give(event.dataTransfer.files[0]);
  };
  document.addEventListener("dragover", dropped, true);
  document.addEventListener("drop", dropped, true);

  const drawn = ({ target, type }) => {
    const button = target.closest?.(".gallery-item");
    if (button) button.ariaLabel = decodeURIComponent(target.src).split("/").pop(); // Gradio's examples have no names
    const image = target.closest?.("#image");
    image?.classList.toggle("vp-undrawn", type === "error");
    if (image && type === "error") say("undrawn");
  };
  document.querySelectorAll(".gallery-item img").forEach((target) => drawn({ target }));
  document.addEventListener("load", drawn, true);
  document.addEventListener("error", drawn, true);
}
