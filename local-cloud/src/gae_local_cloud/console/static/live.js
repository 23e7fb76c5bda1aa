// Keeps an open page as the server would render it now. The page's own address sends it again whenever it has changed,
// as server-sent events. Without this script, reloading does the same.
"use strict";

const parser = new DOMParser();
let source = null;

const status = (live) => {
  const sign = document.getElementById("live");
  sign.textContent = live ? "live" : "not connected";
  sign.dataset.live = live;
};

// The state of a person's own doing stays: what is checked, opened, typed.
const keeps = (name, element) =>
  ["checked", "selected", "open"].includes(name) ||
  (name === "value" && element.type !== "hidden" && element.matches("input, textarea"));

const flash = (element) => element.classList.add("changed");

const show = (html) => {
  const fresh = parser.parseFromString(html, "text/html");
  const changed = [];
  document.title = fresh.title;
  Idiomorph.morph(document.body, fresh.body.innerHTML, {
    morphStyle: "innerHTML",
    callbacks: {
      beforeNodeMorphed: (old) => !["live", "notice"].includes(old.id),
      beforeAttributeUpdated: (name, element) => {
        if (name === "data-state") changed.push(element);
        return !keeps(name, element);
      },
      afterNodeAdded: (node) => {
        if (node.dataset?.state !== undefined) changed.push(node);
      },
    },
  });
  changed.forEach(flash);
};

const connect = () => {
  source = new EventSource(location.href);
  source.onopen = () => status(true);
  source.onerror = () => status(false); // the browser tries again
  source.onmessage = (event) => show(JSON.parse(event.data));
};

const disconnect = () => {
  source?.close();
  source = null;
};

// Nobody looks at a hidden page. One that comes back from the browser's cache is connected again.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
window.addEventListener("pagehide", disconnect);
window.addEventListener("pageshow", (event) => event.persisted && connect());
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-check-all]")) return;
  const boxes = event.target.closest("table").querySelectorAll("tbody input[type=checkbox]");
  boxes.forEach((box) => (box.checked = event.target.checked));
});

// A form that changes something leaves the page where it is: its place, what is open, what is typed.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const notice = document.getElementById("notice");
  notice.hidden = true;
  const done = form.querySelectorAll("input[type=checkbox]:checked");
  const answer = await fetch(form.getAttribute("action"), { // form.action is a button of that name
    method: "POST",
    headers: { Accept: "text/html" },
    body: new URLSearchParams(new FormData(form, event.submitter)),
  });
  const html = await answer.text();
  if (answer.ok) {
    done.forEach((box) => (box.checked = false));
    form.querySelectorAll("details").forEach((details) => (details.open = false));
    show(html);
  } else {
    notice.textContent = parser.parseFromString(html, "text/html").querySelector(".error").textContent;
    notice.hidden = false;
  }
});
document.documentElement.classList.add("scripted");
if (!document.hidden) connect();
