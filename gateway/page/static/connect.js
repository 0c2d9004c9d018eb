/** Connecting a device: snippets with this gateway's address; an administrator registers the device and gets its token. */

import { devicePath, post } from "./api.js";
import { box } from "./device_boxes.js";
import { el, setText } from "./dom.js";
import { reading } from "./format.js";
import { live } from "./live.js";
import { deviceLink } from "./device_row.js";
import { SNIPPETS } from "./snippets.js";

const ID = "[A-Za-z0-9._:\\-]{1,128}";
const COPIED_MS = 2000;

class Connect {
  #abort = new AbortController();
  #device = "my-device";
  #token = "TOKEN";
  #language = Object.keys(SNIPPETS)[0];
  #code = el("code", {});
  #tabs = el("div", { class: "spans", role: "group", "aria-label": "Language" });
  #said = el("p", { class: "said", role: "status" });
  #mark = el("span", { class: "mark", "aria-hidden": "true" });
  #heard = el("span", { role: "status" });
  /** The latest values; outside of the status, because a screen reader should not read out each reading. */
  #sent = el("span", {});

  constructor(root, session) {
    const admin = session.role === "admin";
    const steps = admin ? this.#registration() : this.#instruction();
    const copy = el("button", { type: "button", class: "copy" }, "Copy");
    copy.addEventListener("click", () => this.#copy(copy));
    const far = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname)
      ? el(
          "p",
          { class: "calm" },
          `${location.host} works only on this machine. For a device elsewhere, use an address that the device can reach.`,
        )
      : null;
    root.append(
      el("h1", {}, "Connect a device"),
      el(
        "div",
        { class: "connect" },
        steps,
        box(
          "2. Run this on the device",
          el("div", { class: "toolbar" }, this.#tabs, copy),
          el("pre", { tabindex: "0", "aria-label": "Snippet" }, this.#code),
          far,
        ),
        box("3. See its readings arrive", el("p", { class: "heard" }, this.#mark, this.#heard, this.#sent)),
      ),
    );
    this.#choices();
    this.#show();
    this.#listen();
  }

  close() {
    this.#abort.abort();
  }

  #registration() {
    const id = el("input", {
      type: "text",
      required: true,
      pattern: ID,
      maxlength: "128",
      autocomplete: "off",
      placeholder: "greenhouse-7",
    });
    const make = async (event) => {
      event.preventDefault();
      try {
        this.#registered(await post("/v1/devices", { id: id.value }));
      } catch (error) {
        if (error.status !== 409) return void (this.#said.textContent = error.message);
        this.#offer(id.value);
      }
    };
    return box(
      "1. Register it",
      el(
        "form",
        { class: "register", onsubmit: make },
        el("label", {}, "Device id: letters, digits and . _ : -", id),
        el("button", { type: "submit", class: "main" }, "Register and get a token"),
      ),
      this.#said,
    );
  }

  #offer(id) {
    const rotate = async () => {
      try {
        this.#registered({ id, ...(await post(`${devicePath(id)}/token`, {})) });
      } catch (error) {
        this.#said.textContent = error.message;
      }
    };
    this.#said.replaceChildren(
      `${id} is registered already. `,
      el("button", { type: "button", onclick: rotate }, "Give it a new token"),
      " The old one stops working.",
    );
  }

  #registered({ id, token }) {
    [this.#device, this.#token] = [id, token];
    this.#said.textContent =
      "The token is in the snippets below. It is shown only once; the gateway keeps a hash of it.";
    this.#show();
    this.#listen();
  }

  #instruction() {
    const id = el("input", { type: "text", pattern: ID, maxlength: "128", autocomplete: "off", value: this.#device });
    id.addEventListener("input", () => {
      if (!id.value || !id.checkValidity()) return;
      this.#device = id.value;
      this.#show();
      this.#listen();
    });
    return box(
      "1. Get a token",
      el("label", {}, "Device id", id),
      el(
        "p",
        {},
        "On the gateway's machine, ",
        el("code", {}, "gateway devices add ID"),
        " prints the token of a new device. Log in as administrator to get one on this page.",
      ),
    );
  }

  /** Wait for the device's first reading: the moment for which the person opened this page. */
  #listen() {
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const device = this.#device;
    this.#tell("", `Waiting for ${device}…`);
    live.addEventListener(
      "presence",
      ({ detail }) => {
        if (detail.device === device && detail.state !== "offline")
          this.#tell("late", " is connected; no reading yet.", device);
      },
      { signal },
    );
    live.addEventListener(
      "readings",
      ({ detail }) => {
        const changed = detail.devices[device];
        if (!changed?.last_data) return;
        const values = Object.entries(changed.latest)
          .slice(0, 4)
          .map(([field, value]) => `${field} ${reading(value)}`);
        this.#tell("live", " sends: ", device);
        setText(this.#sent, values.join(", "));
      },
      { signal },
    );
    live.follow({ devices: [device] });
  }

  #tell(mark, text, device = null) {
    const key = `${device} ${text}`;
    if (this.#heard.dataset.key === key) return;
    this.#heard.dataset.key = key;
    this.#mark.className = `mark ${mark}`;
    this.#heard.replaceChildren(device ? el("a", { href: deviceLink(device) }, device) : "", text);
    setText(this.#sent, "");
  }

  #choices() {
    const choose = (language) => () => {
      this.#language = language;
      this.#choices();
      this.#show();
    };
    const button = (language) =>
      el(
        "button",
        { type: "button", "aria-pressed": String(language === this.#language), onclick: choose(language) },
        language,
      );
    this.#tabs.replaceChildren(...Object.keys(SNIPPETS).map(button));
  }

  #show() {
    const target = {
      host: location.host,
      secure: location.protocol === "https:",
      device: this.#device,
      token: this.#token,
    };
    this.#code.textContent = SNIPPETS[this.#language](target);
  }

  async #copy(button) {
    try {
      await navigator.clipboard.writeText(this.#code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(this.#code); // without TLS a browser gives no clipboard
      button.textContent = "Selected: Ctrl-C";
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, COPIED_MS);
  }
}

/** Show how to connect in `root`. */
export function mount(root, { session }) {
  return new Connect(root, session);
}
