// How the server is doing, asked every two seconds while somebody looks.

import { bar, byId, count, element, figure } from "./dom.js";
import { status } from "./server.js";

const EVERY_MS = 2000;
const TIERS = { list: "whole list known", near: "in process", redis: "Redis", joined: "under way already",
  queued: "computed" };

export class StatusPanel {
  #before = null;
  #timer = 0;

  start() {
    document.addEventListener("visibilitychange", () => this.#poll());
    this.#poll();
  }

  async #poll() {
    clearTimeout(this.#timer);
    if (document.hidden) return;
    try {
      this.#show(await status());
    } catch (error) {
      showReadiness("away", "No answer", [error.message]);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#poll(), EVERY_MS);
  }

  #show(status) {
    showReadiness(status.ready ? "ready" : "waiting", status.ready ? "Ready" : "Not ready", status.reasons);
    showFigures(status);
    showHits(this.#sinceLast(status.texts));
    showWorkers(status.workers);
  }

  /** Texts since the last poll; all since start if there were none, or if another process answered this time. */
  #sinceLast(texts) {
    const before = this.#before ?? {};
    this.#before = texts;
    const fresh = Object.keys(TIERS).map((tier) => texts[tier] - (before[tier] ?? 0));
    const usable = fresh.every((n) => n >= 0) && fresh.some((n) => n > 0);
    return usable ? fresh : Object.keys(TIERS).map((tier) => texts[tier]);
  }
}

function showReadiness(state, text, reasons) {
  byId("readiness").className = `readiness ${state}`;
  // Only when it changes: a screen reader says what is written here.
  if (byId("readiness-text").textContent !== text) byId("readiness-text").textContent = text;
  byId("reasons").replaceChildren(...reasons.map((reason) => element("li", {}, reason)));
}

function showFigures({ version, model, revision, premises, modules, workers, queue }) {
  const speed = workers.reduce((sum, worker) => sum + worker.tokens_per_s, 0);
  const figures = {
    Premises: figure(premises),
    Modules: figure(modules),
    Workers: figure(workers.length),
    "Tokens / s": figure(speed),
    "Goals queued": figure(queue.interactive),
    "Texts queued": figure(queue.bulk),
    Data: revision,
    Version: version,
    Model: model,
  };
  byId("figures").replaceChildren(...Object.entries(figures).map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", { title: value }, value))));
}

function showHits(shares) {
  const total = shares.reduce((sum, n) => sum + n, 0);
  byId("hits").hidden = !total;
  if (!total) return;
  const percent = (n) => `${Math.round((100 * n) / total)} %`;
  byId("hits-title").textContent = `Embeddings from a cache: ${percent(total - shares.at(-1))}`;
  const tiers = Object.entries(TIERS).map(([tier, label], i) => ({ tier, label, n: shares[i] })).filter(({ n }) => n);
  byId("shares").replaceChildren(...tiers.map(({ tier, n }) => bar(n / total, 0, tier)));
  byId("legend").replaceChildren(...tiers.map(({ tier, label, n }) =>
    element("li", { class: tier }, label, element("span", { class: "number" }, percent(n)))));
}

function showWorkers(workers) {
  byId("workers").hidden = !workers.length;
  byId("worker-rows").replaceChildren(...workers.map(({ id, device, tokens_per_s, texts }) =>
    element("li", {}, element("span", { class: "lean", title: id }, id),
      element("span", { class: "number" }, `${figure(tokens_per_s)} tokens/s`),
      element("span", { class: "device" }, device), element("span", { class: "number" }, count(texts, "text")))));
}
