/**
 * The page: the role of the person, the open view (the address after #), and whether the data shown is current.
 *
 * A view is a module with `mount(root, options)`, which returns an object with `close()` and perhaps `ranged(query)`.
 */

import { access, logOut, whoAmI } from "./api.js";
import { now } from "./clock.js";
import { mount as connect } from "./connect.js";
import { mount as device } from "./device.js";
import { el, placeholder, setText } from "./dom.js";
import { mount as fleet } from "./fleet.js";
import { duration, moment, zone } from "./format.js";
import { mount as health } from "./health.js";
import { live } from "./live.js";
import { showLogin } from "./login.js";
import { themeButton } from "./themes.js";

const VIEWS = { fleet, device, health, connect };
const FEED = { idle: "", connecting: "Connecting…", open: "Live", polling: "Every 5 s", lost: "Disconnected" };
/** A shorter loss of the connection shows no banner. */
const PATIENCE_MS = 3000;

const main = document.getElementById("main");
const feed = document.getElementById("feed");
const notice = document.getElementById("notice");
const account = document.getElementById("account");

let session = { role: "none", login: true };
let open = { name: "", id: "", view: null };
/** When the feed was lost, by the browser's clock; 0 while it is not lost. */
let lostAt = 0;

/** @returns {{name: string, id: string, query: URLSearchParams}} the view that the address names */
function route() {
  const [path, search = ""] = location.hash.slice(1).split("?");
  const [, first = "", ...rest] = path.split("/");
  const query = new URLSearchParams(search);
  if (first === "devices" && rest[0]) return { name: "device", id: decodeURIComponent(rest.join("/")), query };
  return { name: Object.hasOwn(VIEWS, first) ? first : "fleet", id: "", query };
}

function go(path, query = {}) {
  const search = new URLSearchParams(query).toString();
  location.hash = search ? `${path}?${search}` : path;
}

function shut() {
  open.view?.close?.();
  open = { name: "", id: "", view: null };
  live.stop();
  main.replaceChildren();
}

function show() {
  const { name, id, query } = route();
  if (open.name === name && open.id === id) return open.view?.ranged?.(query);
  const moved = open.name !== "";
  shut();
  document.title = `${id || name[0].toUpperCase() + name.slice(1)} · ${session.name ?? "Telemetry gateway"}`;
  document.body.dataset.view = name;
  for (const link of document.querySelectorAll(".bar nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const logIn = session.login ? askLogin : null;
  open = { name, id, view: VIEWS[name](main, { id, query, session, go, logIn }) };
  if (moved) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  return undefined;
}

/** Take over a session: show the login if it has no role, otherwise the view. */
function enter(found) {
  session = found;
  setText(document.getElementById("version"), found.version ? `Version ${found.version}` : "");
  if (found.name) setText(document.getElementById("name"), found.name);
  account.hidden = !(found.csrf || (found.login && found.role === "viewer"));
  setText(account, found.csrf ? "Log out" : "Log in");
  if (found.role === "none") return askLogin();
  shut();
  return show();
}

async function start() {
  try {
    enter(await whoAmI());
  } catch (error) {
    main.replaceChildren(
      placeholder("error", "The gateway does not answer.", error.message, { label: "Try again", run: start }),
    );
  }
}

/** A request was refused: if the login has ended, show the login. */
async function recheck() {
  const found = await whoAmI().catch(() => null);
  if (found && found.role !== session.role) enter(found);
}

async function switchAccount() {
  if (!session.csrf) return askLogin();
  shut();
  try {
    return enter(await logOut());
  } catch {
    return start(); // shows the error, or that the person is still logged in
  }
}

/** Show the login in place of the view; the view comes back after it. */
function askLogin() {
  shut();
  document.body.dataset.view = "login";
  showLogin(main, session, enter);
}

function showFeed() {
  const { state, heard } = live;
  feed.dataset.state = state;
  setText(feed, FEED[state]);
  lostAt = state === "lost" ? lostAt || Date.now() : 0;
  const old = state === "lost" && Date.now() - lostAt > PATIENCE_MS;
  document.documentElement.toggleAttribute("data-old", old);
  if (!old) return void (notice.hidden = true);
  if (notice.hidden) {
    const retry = el("button", { type: "button", onclick: () => live.retry() }, "Try now");
    const since = heard
      ? `No connection to the gateway. What you see is from ${moment(heard)}`
      : "No connection to the gateway";
    notice.replaceChildren(el("span", {}, since), el("span", { class: "ago", "aria-hidden": "true" }), retry);
    notice.hidden = false;
  }
  return setText(notice.children[1], heard ? `(${duration((now() - heard) / 1000)} ago)` : "");
}

themeButton(document.getElementById("theme"));
setText(document.getElementById("zone"), `Times in ${zone()}`);
account.addEventListener("click", switchAccount);
window.addEventListener("hashchange", () => session.role !== "none" && show());
access.addEventListener("lost", recheck);
live.addEventListener("state", showFeed);
setInterval(showFeed, 1000);
start();
