// Lets a click on a word, or on the mark before a segment, play the recording from there; and says so when the browser
// cannot play it. Without it the marks are links to the audio at their second. Copyright: dayscribe, as the LICENSE says.
"use strict";
(() => {
  const audio = document.getElementById("audio");
  if (!audio) return;
  document.getElementById("words")?.addEventListener("click", (event) => {
    const from = event.target.closest("[data-second]");
    if (!from || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    audio.currentTime = Number(from.dataset.second);
    audio.play().catch(() => {}); // what went wrong is told below
  });
  audio.addEventListener("error", () => {
    document.getElementById("unheard").hidden = false;
  });
})();
