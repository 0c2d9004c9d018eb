/** The login: one token, which becomes a cookie that scripts cannot read. */

import { logIn } from "./api.js";
import { el } from "./dom.js";

/** A form in `root`; `done` gets the session. */
export function showLogin(root, session, done) {
  const token = el("input", { type: "password", autocomplete: "current-password", required: true, name: "token" });
  const user = el("input", {
    type: "text",
    name: "username",
    value: session.name ?? "gateway",
    autocomplete: "username",
    hidden: true,
  });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const button = el("button", { type: "submit", class: "main" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    wrong.textContent = "";
    try {
      done(await logIn(token.value.trim()));
    } catch (error) {
      wrong.textContent = error.status === 401 ? "This is neither the viewer's nor the administrator's token." : error.message;
      button.disabled = false;
      token.select();
    }
  };
  const hint =
    session.role === "none"
      ? "The viewer's token lets you see the fleet; the administrator's token also lets you make changes."
      : "With the administrator's token you can register devices, send them commands, and change their settings.";
  root.append(
    el(
      "form",
      { class: "login box", onsubmit: submit },
      el("h1", {}, "Log in"),
      el("p", {}, hint),
      user,
      el("label", {}, "Token", token),
      wrong,
      button,
    ),
  );
  token.focus();
}
