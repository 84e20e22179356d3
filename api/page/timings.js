// The stages of one request, from its Server-Timing header, one under the other along the time they took.

import { bar, byId, element, milliseconds } from "./dom.js";

// Stages of one step start together; the next step starts when the last of them ended.
const STEPS = [["read"], ["parse"], ["state", "new_premises", "accessible"], ["search"], ["merge"], ["write"]];
const LABELS = { read: "read", parse: "parse", state: "embed goal", new_premises: "embed new", accessible: "accessible",
  search: "search", merge: "merge", write: "write" };

/** Milliseconds by stage. */
export function parseTiming(header) {
  const entries = [...(header ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g)];
  return new Map(entries.map(([, stage, ms]) => [stage, Number(ms)]));
}

export function showTimings(header, totalMs) {
  const spans = laidOut(parseTiming(header));
  const end = Math.max(totalMs, ...spans.map(({ start, ms }) => start + ms));
  const rows = spans.map(({ stage, start, ms }) => row(LABELS[stage] ?? stage, start / end, ms / end, ms));
  byId("timing-rows").replaceChildren(...rows.flat(), ...row("round trip", 0, totalMs / end, totalMs, "total"));
  byId("timings").hidden = false;
}

function laidOut(timing) {
  const known = STEPS.flat();
  const steps = [...STEPS, ...[...timing.keys()].filter((stage) => !known.includes(stage)).map((stage) => [stage])];
  const spans = [];
  let start = 0;
  for (const step of steps) {
    const stages = step.filter((stage) => timing.has(stage));
    spans.push(...stages.map((stage) => ({ stage, start, ms: timing.get(stage) })));
    start += Math.max(0, ...stages.map((stage) => timing.get(stage)));
  }
  return spans;
}

function row(label, start, length, ms, kind = "") {
  return [element("dt", {}, label),
    element("dd", {}, element("span", { class: "track" }, bar(length, start, kind)),
      element("span", { class: "number" }, milliseconds(ms)))];
}
