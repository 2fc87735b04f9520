// Sends pictures in chunks, a few at a time, and tries again where the service says that it is busy.

const CHUNK = 16;
const AT_ONCE = 2;
const TRIES_WITHOUT_ANSWER = 3;

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** A refusal of the whole request. status: of HTTP, or 0 where nothing answered. */
export class Refused extends Error {
  constructor(status, sentence, pictures = null) {
    super(sentence);
    this.status = status;
    this.pictures = pictures;
  }
}

/** GET or POST; gives the JSON of the answer, or throws Refused. */
export async function ask(address, { token = "", ...options } = {}) {
  const headers = { ...(options.headers ?? {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(address, { ...options, headers });
  } catch {
    throw new Refused(0, "the service does not answer; is it still running?");
  }
  const content = await answer.json().catch(() => null);
  if (answer.ok && content) return content;
  const refused = new Refused(answer.status, content?.error ?? `the service answered ${answer.status}.`, content?.pictures);
  refused.after = Number(answer.headers.get("Retry-After")) || 1;
  throw refused;
}

/** Entries ({file}) in chunks that the service takes. */
export function chunks(entries, limits) {
  const all = [];
  let chunk = [];
  let bytes = 0;
  const most = Math.min(CHUNK, limits.files);
  for (const entry of entries) {
    // Each part of the form has a header of its own.
    const size = entry.file.size + 1024;
    if (chunk.length && (chunk.length === most || bytes + size > limits.bytes_request * 0.9)) {
      all.push(chunk);
      chunk = [];
      bytes = 0;
    }
    chunk.push(entry);
    bytes += size;
  }
  if (chunk.length) all.push(chunk);
  return all;
}

/**
 * Sends all entries. told(entry, answer) is called once for each, with what the service says or {error};
 * busy(seconds) where it has to be waited for; locked() gives a new token where one is needed.
 */
export async function sendAll(entries, { limits, heatmap, token, told, busy, locked, stopped }) {
  const waiting = chunks(entries, limits);
  const worker = async () => {
    while (waiting.length && !stopped()) {
      const chunk = waiting.shift();
      const answers = await sendChunk(chunk);
      if (stopped()) return;
      chunk.forEach((entry, place) => told(entry, answers[place]));
      // A frame between chunks keeps the page alive, however many there are.
      await pause(0);
    }
  };
  const sendChunk = async (chunk) => {
    for (let without = 0; ; ) {
      const form = new FormData();
      for (const entry of chunk) form.append("pictures", entry.file, entry.file.name);
      try {
        const address = heatmap ? "/v1/predict?heatmap=1" : "/v1/predict";
        return (await ask(address, { method: "POST", body: form, token: token() })).pictures;
      } catch (refused) {
        if (stopped()) return chunk.map(() => ({ error: "stopped" }));
        if (refused.status === 429) {
          busy(refused.after);
          // Not all at the same moment, or the same would be refused again.
          await pause(refused.after * (0.5 + Math.random()));
        } else if (refused.status === 401) {
          await locked();
        } else if (refused.status === 0 && ++without < TRIES_WITHOUT_ANSWER) {
          await pause(without);
        } else {
          return refused.pictures ?? chunk.map(() => ({ error: refused.message, retry: true }));
        }
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
