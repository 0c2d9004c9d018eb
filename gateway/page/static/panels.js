/** Which curves share a chart, and their labels. */

import { Series } from "./series.js";

const TINTS = 6;

/**
 * If several measurements have a field, its label has both names.
 *
 * @returns {{title: string, curves: object[]}[]} a panel for each unit, and one for each field without
 */
export function panelsOf(found) {
  const panels = new Map();
  const fields = found.map(({ field }) => field);
  const twice = new Set(fields.filter((field, at) => fields.indexOf(field) !== at));
  found.forEach(({ measurement = null, field, unit, known }) => {
    const key = unit ? `unit ${known} ${unit}` : `field ${measurement} ${field}`;
    const panel = panels.get(key) ?? { curves: [], unit, known };
    panel.curves.push({
      field,
      measurement,
      unit,
      label: twice.has(field) && measurement ? `${measurement}: ${field}` : field,
      tint: (panel.curves.length % TINTS) + 1,
      series: new Series(),
    });
    panels.set(key, panel);
  });
  return [...panels.values()].map((panel) => ({
    title: `${panel.curves.map(({ label }) => label).join(", ")}${panel.unit ? ` in ${panel.unit}` : ""}`,
    curves: panel.curves,
    optional: !panel.known,
  }));
}
