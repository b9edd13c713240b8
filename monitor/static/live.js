// Lets the numbers of a page move: asks for the page itself again, by its ETag, and puts the parts marked data-live in
// place. Without it every page is whole. Copyright: dayscribe, as the LICENSE beside it says.
"use strict";
(() => {
  const seconds = Number(document.body.dataset.liveSeconds);
  if (!seconds) return;
  let etag = null;
  let wait = seconds;

  const put = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const old of document.querySelectorAll("[data-live][id]")) {
      const next = fresh.getElementById(old.id);
      // What somebody has the focus or a selection in is left alone until they leave it.
      if (!next || old.contains(document.activeElement) || old.outerHTML === next.outerHTML) continue;
      const put = document.importNode(next, true);
      for (const open of old.querySelectorAll("details[open][id]")) {
        put.querySelector(`#${open.id}`)?.setAttribute("open", "");
      }
      old.replaceWith(put);
    }
  };

  const look = async () => {
    if (!document.hidden) {
      try {
        const headers = etag ? { "If-None-Match": etag } : {};
        const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "error" });
        if (answer.status === 200) {
          etag = answer.headers.get("ETag");
          put(await answer.text());
        } else if (answer.status !== 304) {
          throw new Error(String(answer.status));
        }
        document.getElementById("offline").hidden = true;
        wait = seconds;
      } catch {
        document.getElementById("offline").hidden = false;
        wait = Math.min(wait * 2, 60);
      }
    }
    setTimeout(look, wait * 1000);
  };
  setTimeout(look, wait * 1000);
})();
