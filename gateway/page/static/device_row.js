/** One row of the fleet's table. Nodes are made once and filled many times; only nodes that differ are changed. */

import { said } from "./devices.js";
import { el, setAttribute, setText } from "./dom.js";
import { NONE_YET, age, moment, rate, reading } from "./format.js";
import { Sparkline } from "./sparkline.js";

const FIELDS = 6;

/** @returns {string} the address of a device's view */
export function deviceLink(id) {
  return `#/devices/${encodeURIComponent(id)}`;
}

function field() {
  const name = el("span", { class: "name" });
  const value = el("span", { class: "value" });
  return { node: el("span", { class: "field" }, name, " ", value), name, value };
}

export class DeviceRow {
  #mark = el("span", { class: "mark", "aria-hidden": "true" });
  #state = el("span", {});
  #link = el("a", { tabindex: "-1" });
  #age = el("span", {});
  #fields = Array.from({ length: FIELDS }, field);
  #spark = new Sparkline();
  #rate = el("span", {});
  node = el(
    "div",
    { role: "row", class: "row" },
    el("div", { role: "cell", class: "state" }, this.#mark, this.#state),
    el("div", { role: "cell", class: "id" }, this.#link),
    el("div", { role: "cell", class: "age" }, this.#age),
    el("div", { role: "cell", class: "values" }, ...this.#fields.map((each) => each.node)),
    el("div", { role: "cell", class: "spark" }, this.#spark.node),
    el("div", { role: "cell", class: "rate" }, this.#rate),
  );

  /** Show a device in this row; `unit` finds the unit of a field. */
  show(device, index, now, unit, active) {
    setAttribute(this.node, "aria-rowindex", String(index + 2));
    setAttribute(this.node, "data-device", device.id);
    setAttribute(this.node, "data-state", device.state);
    setAttribute(this.#mark, "class", `mark ${device.state}`);
    setText(this.#state, said(device.state));
    setText(this.#link, device.id);
    setAttribute(this.#link, "href", deviceLink(device.id));
    setAttribute(this.#link, "tabindex", active ? "0" : "-1");
    setText(this.#age, age(device.lastData, now));
    setAttribute(this.#age, "title", device.lastData ? moment(device.lastData) : NONE_YET);
    setText(this.#rate, rate(device.rate));
    this.#showValues(device.latest, unit);
    this.#spark.show(device.trail, now);
  }

  #showValues(latest, unit) {
    const names = Object.keys(latest);
    this.#fields.forEach((each, position) => {
      const name = names[position];
      setAttribute(each.node, "hidden", name === undefined ? "" : null);
      if (name === undefined) return;
      setText(each.name, name);
      setText(each.value, reading(latest[name], unit(name)));
    });
  }

  focus() {
    this.#link.focus({ preventScroll: true });
  }
}
