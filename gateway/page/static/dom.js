/**
 * Elements from code. Text from a device or a database becomes a text node or an attribute's value here,
 * never markup: no code of this page parses HTML.
 */

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/**
 * @param {string} tag
 * @param {Object<string, unknown>} attributes functions are listeners (`onclick`); null, undefined and false are left out
 * @param {...(Node|string|null)} children strings become text
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Set a node's text, if it is another one: an unchanged node is not laid out again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set an attribute, if its value is another one; null removes it. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** A table of class `name`: the heads of its columns over `body`. */
export function table(name, columns, body) {
  const heads = columns.map((column) => el("th", { role: "columnheader", scope: "col" }, column));
  const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads));
  return el("table", { role: "table", class: name }, head, body);
}

/** What a view shows in place of data: no data, loading, or an error with an action. */
export function placeholder(kind, title, text, action = null) {
  return el(
    "div",
    { class: `placeholder ${kind}`, role: kind === "error" ? "alert" : "status" },
    el("p", { class: "title" }, title),
    text ? el("p", {}, text) : null,
    action && el("button", { type: "button", onclick: action.run }, action.label),
  );
}
