"use strict";
// Puts what the server says now in place of what is shown, at every event and every two seconds.
async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const open = [...document.querySelectorAll("details[open]")].map((one) => one.id);
    document.querySelector("main").replaceWith(fresh.querySelector("main"));
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    document.body.className = "";
  } catch {
    document.body.className = "away";
  }
}
let due = null;
function soon() {
  due ??= setTimeout(() => { due = null; refresh(); }, 200);
}
const events = new EventSource("api/events");
for (const kind of ["transition", "reload", "reload_refused", "swap", "note"]) {
  events.addEventListener(kind, soon);
}
setInterval(() => document.hidden || soon(), 2000);
