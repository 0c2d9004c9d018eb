/**
 * Requests to the gateway. Every answer is JSON; an error becomes an `ApiError` with the gateway's text.
 * A change carries the CSRF token of the session; a 401 dispatches `lost` on `access`, and app.js shows the login.
 */

const MAX_WAIT_MS = 20_000;

export const access = new EventTarget();

/** The CSRF token of the session; null without a login. */
let csrf = null;

/** An error answer; `status` is 0 if there was no answer. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function send(method, path, body, signal, longest) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf !== null) headers["X-CSRF-Token"] = csrf;
  const limit = AbortSignal.timeout(longest);
  try {
    return await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    const slow = error.name === "TimeoutError";
    throw new ApiError(
      0,
      "unreachable",
      slow ? "The gateway did not answer in time." : "The gateway cannot be reached.",
    );
  }
}

async function request(method, path, { body, signal, longest = MAX_WAIT_MS } = {}) {
  const answer = await send(method, path, body, signal, longest);
  const content = await answer.json().catch(() => null);
  if (answer.ok) return content;
  const { code = "error", message = `${answer.status} ${answer.statusText}`.trim() } = content?.error ?? {};
  if (answer.status === 401 && !path.startsWith("/v1/session")) access.dispatchEvent(new Event("lost"));
  if (answer.status === 404 && content?.found === false) return content; // `why` answers 404 with a body when it finds nothing
  throw new ApiError(answer.status, code, message);
}

/** @param {string} path @param {Object<string, unknown>} query null and undefined are left out @param {AbortSignal} [signal] */
export function get(path, query = {}, signal = undefined) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return request("GET", search ? `${path}?${search}` : path, { signal });
}

/** @param {{signal?: AbortSignal, longest?: number}} [options] `longest`: ms to wait for the answer */
export function post(path, body, options = {}) {
  return request("POST", path, { ...options, body });
}

export function put(path, body, options = {}) {
  return request("PUT", path, { ...options, body });
}

export function remove(path, body) {
  return request("DELETE", path, { body });
}

function remember(session) {
  csrf = session.csrf ?? null;
  return session;
}

/** @returns {Promise<{role: string, csrf: string|null, login: boolean, version: string, name: string}>} the session of the person */
export async function whoAmI() {
  return remember(await get("/v1/session"));
}

export async function logIn(token) {
  return remember(await post("/v1/session", { token }));
}

export async function logOut() {
  await remove("/v1/session");
  return whoAmI();
}

/** @returns {string} the path of a device's resource */
export function devicePath(id) {
  return `/v1/devices/${encodeURIComponent(id)}`;
}
