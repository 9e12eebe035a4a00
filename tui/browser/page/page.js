"use strict";

// The terminal measures a cell once, so its font has to be there before it begins.
const loaded = new Promise((done) => window.addEventListener("load", done));
const fonts = ["16px", "bold 16px", "italic 16px"].map((style) => document.fonts.load(`${style} "Roboto Mono"`));

Promise.allSettled([loaded, ...fonts]).then(() => {
  const terminal = document.createElement("script");
  terminal.src = "static/textual.js";
  terminal.onload = () => window.onload();
  document.body.append(terminal);
});

document.getElementById("again").addEventListener("click", () => window.location.reload());

new MutationObserver(() => {
  if (document.body.classList.contains("-first-byte")) document.querySelector(".xterm-helper-textarea").focus();
}).observe(document.body, { attributeFilter: ["class"] });
