// Looks again when the server has news: the page's own address, with what has changed in <main> exchanged. Not while
// somebody types or chooses in it, nor in a tab that nobody sees, nor a page that is costly to make (`data-still`).
"use strict";
const main = document.getElementById("main");
const live = document.getElementById("live");
let busy = false;

function untouched() {
  const at = document.activeElement;
  const typing = at && main.contains(at) && at.matches("input, button, select, textarea");
  const filled = [...main.querySelectorAll("input, textarea")].some((one) => one.value !== one.defaultValue);
  return !document.hidden && !typing && !filled && !main.querySelector("input:checked") && !String(getSelection());
}

// Makes `old` like `fresh` and leaves alone what is alike, so that focus, scrolling and opened parts stay.
function become(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE || old.tagName !== fresh.tagName) {
    old.replaceWith(fresh);
    return;
  }
  for (const name of new Set([...old.getAttributeNames(), ...fresh.getAttributeNames()])) {
    if (name === "open") continue;
    const value = fresh.getAttribute(name);
    if (value === null) old.removeAttribute(name);
    else if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const were = [...old.childNodes], are = [...fresh.childNodes];
  are.forEach((node, at) => { if (at < were.length) become(were[at], node); else old.append(node); });
  were.slice(are.length).forEach((node) => node.remove());
}

async function lookAgain() {
  if (busy || !untouched()) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.ok && untouched()) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      if (fresh) become(main, fresh);
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
const still = main.hasAttribute("data-still");
document.addEventListener("visibilitychange", () => { if (!still) listen(); });
if (still) live.textContent = "a still picture: reload to look again";
else if (!document.querySelector(".said.bad")) listen();

// Choosing: all of a list at once, and how many there are by now.
main.addEventListener("change", (event) => {
  const form = event.target.closest("form.bulk");
  if (!form || event.target.type !== "checkbox") return;
  const jobs = [...form.querySelectorAll("[name=jobs]")];
  if (event.target.matches(".all")) for (const one of jobs) one.checked = event.target.checked;
  const count = jobs.filter((one) => one.checked).length;
  form.querySelector(".all").checked = count === jobs.length;
  form.querySelector(".chosen").textContent = count ? `${count} chosen.` : "";
});

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
