/** Switching between the system's theme, light and dark; charts get an event, because a canvas does not follow CSS. */

const ORDER = ["system", "light", "dark"];
const NAMES = { system: "Auto", light: "Light", dark: "Dark" };

export const themes = new EventTarget();

/** @returns {string} the value of a colour of theme.css as it is now, for a canvas */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function chosen() {
  return document.documentElement.dataset.theme ?? "system";
}

function choose(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Storage is switched off: the choice lasts as long as the page.
  }
  themes.dispatchEvent(new Event("change"));
}

/** Let `button` switch between the three themes. */
export function themeButton(button) {
  const show = () => {
    button.textContent = `◐ ${NAMES[chosen()]}`;
    button.setAttribute("aria-label", `Theme: ${NAMES[chosen()]}. Change`);
  };
  button.addEventListener("click", () => {
    choose(ORDER[(ORDER.indexOf(chosen()) + 1) % ORDER.length]);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    themes.dispatchEvent(new Event("change")),
  );
  show();
}
