// The camera, live: the next image is sent when the last one is answered, so nothing can queue up, however slow
// the server is. Nothing is sent while the page cannot be seen.
const SIDE = 384; // pixels: more than any of the models sees
let stream = null;

const find = (selector) => element.querySelector(`.vp-live ${selector}`);
const rest = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function stop() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  find("button").textContent = element.querySelector(".vp-live").dataset.start;
  find("video").hidden = true;
}

async function start() {
  const live = element.querySelector(".vp-live");
  const [video, answer] = [find("video"), find(".vp-answer")];
  const mine = await navigator.mediaDevices?.getUserMedia({ video: true }).catch(() => null);
  if (!mine || stream || !live.isConnected) {
    for (const track of mine?.getTracks() ?? []) track.stop();
    if (!mine) Object.assign(answer, { hidden: false, textContent: live.dataset.none });
    return;
  }
  stream = video.srcObject = mine;
  video.hidden = false;
  find("button").textContent = live.dataset.stop;
  await video.play().catch(() => null);
  while (stream === mine && live.isConnected && mine.active) {
    if (document.hidden || !video.offsetParent || !video.videoWidth) {
      await rest(200);
      continue;
    }
    const scale = Math.min(1, SIDE / Math.min(video.videoWidth, video.videoHeight));
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: scale * video.videoWidth, height: scale * video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    const model = new URLSearchParams(location.search).get("model") ?? "";
    const asked = { image: canvas.toDataURL("image/jpeg"), model, lang: live.dataset.lang };
    const found = await server.frame(asked).catch(() => null);
    if (stream !== mine || !live.isConnected) break;
    answer.hidden = false;
    if (found) answer.innerHTML = found.said; // written and escaped by the server
    else answer.textContent = live.dataset.failed;
    await rest(found && !found.problem ? 50 : 1000);
  }
  if (stream === mine) stop();
}

element.addEventListener("click", (event) => {
  if (!event.target.closest("button")) return;
  if (stream) stop();
  else start();
});
watch("value", () => stream && stop()); // the words are new, and the picture with them
