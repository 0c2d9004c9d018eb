/**
 * The theme that was chosen, set before anything is drawn: a classic script in the head, so that the page does not flash.
 * Without a choice the operating system's theme applies (theme.css).
 */
"use strict";

(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch {
    // Storage is switched off: the system's theme applies.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
