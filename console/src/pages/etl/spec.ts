// The spec of a module, as the API takes it: how it is read from text, and what its fields mean.

export interface Spec {
  mode: "inline" | "async";
  topics: string[];
  stage?: number;
  priority?: number;
  when?: unknown[];
  on_failure?: "reject" | "pass" | "dead-letter";
  dead_letter_topic?: string;
  routes?: string[];
  output?: string;
  config?: unknown;
  deadline_ms?: number;
  memory_bytes?: number;
  fuel?: number;
  instances?: number;
  error_budget?: { failures?: number; window_ms?: number };
}

// What counts where a spec says nothing; docs/etl-inline.md has the same.
export const defaults = { deadline_ms: 100, memory_bytes: 64 * 2 ** 20, instances: 2, failures: 20, window_ms: 60_000 };

export const emptySpec: Spec = { mode: "inline", topics: [] };

// parseSpec reads one; what the server would say of its values it says itself.
export function parseSpec(text: string): { spec: Spec } | { error: string } {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return { error: "A spec is one JSON object." };
    const spec = value as Partial<Spec>;
    if (spec.topics !== undefined && !(Array.isArray(spec.topics) && spec.topics.every((t) => typeof t === "string"))) return { error: "topics is a list of texts." };
    return { spec: { ...spec, mode: spec.mode ?? "inline", topics: spec.topics ?? [] } };
  } catch (why) {
    return { error: why instanceof Error ? why.message : "It is not JSON." };
  }
}

// inexact reports whether a spec has a whole number that a browser rounds: beyond 2^53 what was
// written, or is deployed, is another by now.
export function inexact(value: unknown): boolean {
  if (typeof value === "number") return Number.isInteger(value) && !Number.isSafeInteger(value);
  return typeof value === "object" && value !== null && Object.values(value).some(inexact);
}

export function specText(spec: unknown): string {
  return JSON.stringify(spec, null, 2);
}

// policyOf is what becomes of records that a module rejects or fails on.
export function policyOf(spec: Spec): string {
  return spec.on_failure ?? (spec.mode === "async" ? "dead-letter" : "reject");
}

// lines are the texts of a field that has one in each line.
export function lines(text: string): string[] {
  return text.split("\n").map((l) => l.trim()).filter(Boolean);
}

// plainTopics are the topics of a spec that are names and no patterns.
export function plainTopics(spec: Spec): string[] {
  return spec.topics.filter((t) => /^[A-Za-z0-9._-]+$/.test(t));
}
