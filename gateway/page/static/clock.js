/** The gateway's clock: ages are told by it, because a viewer's own clock may be wrong by hours. */

let ahead = 0;

/** Take over the gateway's time, in ms since 1970, as it was told just now. */
export function setClock(ms) {
  ahead = ms - Date.now();
}

/** @returns {number} ms since 1970 on the gateway */
export function now() {
  return Date.now() + ahead;
}
