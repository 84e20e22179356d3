// What the page asks of the server. All paths are relative: a key or a data revision may stand before them.

/** An answer that is an error; its message is a sentence for the user. */
export class Refused extends Error {}

export function retrieve(body, signal) {
  return ask("retrieve", { method: "POST", body: JSON.stringify(body), signal });
}

export async function declarations(names, signal) {
  return (await ask("declarations", { method: "POST", body: JSON.stringify({ names }), signal })).json();
}

export async function status() {
  return (await ask("status", { cache: "no-store" })).json();
}

export async function indexedModules() {
  return (await ask("indexed-modules")).json();
}

async function ask(path, options = {}) {
  const headers = options.body ? { "Content-Type": "application/json" } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is it running, and can this machine reach it?");
  }
  if (!answer.ok) throw new Refused(await sentence(answer));
  return answer;
}

async function sentence(answer) {
  const body = await answer.json().catch(() => null);
  const detail = typeof body?.detail === "string" ? body.detail : `The server answered with status ${answer.status}.`;
  const seconds = answer.headers.get("Retry-After");
  return seconds && !detail.includes("ry again") ? `${detail} Try again in ${seconds} s.` : detail;
}
