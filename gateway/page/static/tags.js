/** Tags of a device as people type them: `room=kitchen, floor=2`. */

/**
 * @param {string} text
 * @returns {Object<string, string>}
 * @throws {Error} its message is for the person who typed it
 */
export function tagsOf(text) {
  const tags = new Map();
  for (const part of text.split(",").map((each) => each.trim())) {
    if (!part) continue;
    const [, name, value] = /^([^=]+?)\s*=\s*(.+)$/.exec(part) ?? [];
    if (!name) throw new Error(`Write tags as name=value, separated by commas; “${part}” is not a tag.`);
    if (tags.has(name)) throw new Error(`The tag ${name} is given twice.`);
    tags.set(name, value);
  }
  return Object.fromEntries(tags);
}
