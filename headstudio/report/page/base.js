"use strict";
const byId = (id) => document.getElementById(id);
const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const DATA = JSON.parse(byId("data").textContent);
const isCalm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
// Plotly takes some markup in labels; a user's text is to be text
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const kept = {  // not every browser lets a local file keep something
  get(key) { try { return sessionStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(key, value); } catch { /* then not */ } },
};

for (const button of all(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

const reload = byId("reload");
if (reload) {
  let timer = 0;
  const set = () => {
    clearTimeout(timer);
    kept.set("reload", reload.checked ? "1" : "");
    if (reload.checked) timer = setTimeout(() => location.reload(), 60000);
  };
  reload.checked = kept.get("reload") === "1";
  reload.addEventListener("change", set);
  set();
}

// A link to a run opens it
const open = () => {
  const target = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", open);
open();
