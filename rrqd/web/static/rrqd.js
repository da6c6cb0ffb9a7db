// Looks again when the server has news: the page's own address, its <main> exchanged. Not while somebody types or
// chooses in it, nor in a tab that nobody sees.
"use strict";
const main = document.getElementById("main");
const live = document.getElementById("live");
let busy = false;

function untouched() {
  const at = document.activeElement;
  const typing = at && main.contains(at) && at.matches("input, button, select, textarea, summary");
  return !document.hidden && !typing && !main.querySelector("input:checked") && !String(getSelection());
}

async function lookAgain() {
  if (busy || !untouched()) return;
  busy = true;
  try {
    const address = new URL(location.href);
    for (const name of ["did", "count"]) address.searchParams.delete(name);
    const answer = await fetch(address, { headers: { accept: "text/html" } });
    if (answer.ok && untouched()) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      if (fresh) {
        for (const one of main.querySelectorAll("details[open]")) fresh.querySelector(`#${CSS.escape(one.id)}`)?.setAttribute("open", "");
        const said = main.querySelector("p.said");  // what an action did stays until somebody goes elsewhere
        if (said) fresh.querySelector("h1").before(said.cloneNode(true));
        if (fresh.innerHTML !== main.innerHTML) main.replaceChildren(...fresh.childNodes);
      }
      live.textContent = "live";
    }
  } catch {
    live.textContent = "no answer; trying again";
  } finally {
    busy = false;
  }
}

let stream = null;
function listen() {
  if (document.hidden) {
    if (stream) stream.close();
    stream = null;
  } else if (!stream) {
    stream = new EventSource(new URL("api/v1/events", document.baseURI));
    stream.addEventListener("tick", lookAgain);
    stream.onerror = () => setTimeout(() => {  // a stream that has had its time is soon followed by another
      if (stream && stream.readyState !== EventSource.OPEN) live.textContent = "no answer; trying again";
    }, 2000);
  }
}
document.addEventListener("visibilitychange", listen);
if (!document.querySelector(".said.bad")) listen();

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const places = { o: "", q: "queues", j: "jobs", r: "running", f: "failures", b: "dlq", s: "schedules", l: "throttles", w: "workers", t: "tags", a: "audit", c: "config" };
  if (event.key === "/") {
    event.preventDefault();
    document.getElementById("q").focus();
  } else if (event.key in places) {
    location.href = new URL(places[event.key], document.baseURI);
  }
});
