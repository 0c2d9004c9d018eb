/** The gateway's clock: ages are computed with it, because a viewer's own clock may be wrong by hours. */

/** How far the gateway's clock is ahead of the browser's, in ms. */
let ahead = 0;

/** Take over the gateway's time, in ms since 1970, as it has just arrived. */
export function setClock(ms) {
  ahead = ms - Date.now();
}

/** @returns {number} ms since 1970 on the gateway */
export function now() {
  return Date.now() + ahead;
}
