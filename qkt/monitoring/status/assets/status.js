"use strict";
// Replaces the sections of the page as the server sends them, and says so when nothing comes any more.
(() => {
  const LOST_AFTER_MS = 4000;
  const RETRY_MS = 3000;
  const link = document.getElementById("link");
  const announce = document.getElementById("announce");
  let source = null;
  let last = Date.now();
  let lastAt = "";
  let level = "";

  function say(text, state) {
    if (link.textContent !== text) link.textContent = text;
    link.className = "link " + state;
    document.body.classList.toggle("lost", state === "lost");
  }

  // Changes only what differs, so that focus, selection and a click under way survive an update.
  function morph(old, fresh) {
    const isLink = old.nodeName === "A" && old.getAttribute("href") !== fresh.getAttribute("href");
    if (old.nodeName !== fresh.nodeName || isLink) { old.replaceWith(fresh); return; }
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.attributes) {
      for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of [...fresh.attributes]) {
        if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      }
    }
    morphChildren(old, fresh);
  }

  function morphChildren(old, fresh) {
    const before = [...old.childNodes];
    const after = [...fresh.childNodes];
    if (before.length !== after.length) { old.replaceChildren(...after); return; }
    before.forEach((node, at) => morph(node, after[at]));
  }

  function replace(name, html) {
    const section = document.getElementById(name);
    if (!section) return;
    const template = document.createElement("template");
    template.innerHTML = html; // made by the server, which escapes every text
    morphChildren(section, template.content);
  }

  function take(message) {
    const told = JSON.parse(message.data);
    for (const [name, html] of Object.entries(told.sections)) replace(name, html);
    document.title = told.title;
    if (told.level !== level) { // only a change is read out, not every second
      level = told.level;
      announce.textContent = told.sentence;
    }
    last = Date.now();
    lastAt = told.at;
    say("live", "live");
  }

  function open() {
    source = new EventSource("events");
    source.onmessage = take;
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      source.close();
      setTimeout(open, RETRY_MS);
    };
  }

  setInterval(() => {
    const silent = Date.now() - last;
    if (silent < LOST_AFTER_MS) return;
    const shown = lastAt ? " Shown is " + lastAt + " UTC." : "";
    say("No answer from qkt for " + Math.round(silent / 1000) + " s." + shown, "lost");
    if (!document.title.startsWith("✗")) document.title = "✗ qkt: no answer";
  }, 1000);

  addEventListener("pagehide", () => source && source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  open();
})();
