/**
 * The outcome of a command in words. Only the device's result counts as done; where it is not known whether a command
 * was carried out, the text says so.
 */

import { duration, latency, moment } from "./format.js";

const UNKNOWN = "It is not known whether the command was carried out.";

/** By the reason that the gateway gives: mark, word, sentence. */
const REASONS = {
  no_answer: ["unsure", "no answer in time", `The device did not answer in time. ${UNKNOWN}`],
  connection_lost: ["unsure", "connection lost", `The connection closed before the device answered. ${UNKNOWN}`],
  restart: ["unsure", "gateway restarted", `The gateway stopped before the device answered. ${UNKNOWN}`],
  unreachable: ["unsure", "no answer of the gateway", "If the gateway accepted the command, it is in the history below."],
  not_sent: ["failed", "not sent", "It could not be sent in time."],
  not_connected: ["failed", "not connected", "The device is not connected, and nothing was sent."],
};
/** Status codes after which the command may still be carried out: a fault of the gateway, or a proxy's timeout. */
const UNKNOWN_OUTCOME = [500, 502, 504];
const NO_ANSWER = { status: 0, code: "unreachable" };

/**
 * @typedef {Object} Told
 * @property {"done"|"failed"|"unsure"|"open"} mark
 * @property {string} word
 * @property {string} text a sentence; empty where there is nothing to add
 * @property {unknown} [value] what the device answered
 */

/** @returns {Told} the answer to a request to send a command */
export function answered(answer, seconds) {
  if (answer?.keep)
    return {
      mark: "open",
      word: "kept",
      text: `The device gets it as soon as it connects, until ${moment(answer.expires_at)}; the history shows its answer.`,
    };
  if (answer?.ok) return { mark: "done", word: "done", text: `in ${duration(seconds)}`, value: answer.value };
  if (answer?.ok === false) return { mark: "failed", word: "the device reports an error", text: answer.error };
  return refused({ ...NO_ANSWER, message: "The answer did not come from the gateway." });
}

/** @returns {Told} the same for a request that failed; only a code of the gateway proves that the command was not sent */
export function refused({ status, code, message }) {
  if (REASONS[code]) {
    const [mark, word, text] = REASONS[code];
    return { mark, word, text: status === 0 ? `${message} ${text}` : text };
  }
  if (code === undefined || code === "error" || UNKNOWN_OUTCOME.includes(status))
    return refused({ ...NO_ANSWER, message: `The answer was: ${message}.` });
  return { mark: "failed", word: "not sent", text: message };
}

function inTime(entry) {
  const late = entry.ended_at > entry.expires_at ? "late, " : "";
  return entry.sent_at ? `${late}after ${latency(Math.max(0, entry.ended_at - entry.sent_at))}` : late;
}

/** @returns {Told} an entry of the history */
export function recorded(entry) {
  switch (entry.state) {
    case "waiting":
      return { mark: "open", word: "waiting", text: `until ${moment(entry.expires_at)}` };
    case "sent":
      return { mark: "open", word: "sent", text: "no answer yet" };
    case "answered":
      return { mark: entry.ok ? "done" : "failed", word: entry.ok ? "done" : "error", text: inTime(entry) };
    default: {
      const [mark, word] = REASONS[entry.error] ?? ["failed", entry.error ?? entry.state];
      return { mark, word, text: "" };
    }
  }
}
