// The spec of a module as a form, and as the JSON that it is. Both show one text: what the form
// has no field for stays as it is.
import { useState } from "preact/hooks";
import { bytes } from "../../format";
import { Button, Field, Select } from "../../ui";
import { defaults, lines, parseSpec, policyOf, specText, type Spec } from "./spec";

export function SpecEditor({ text, onText, example }: { text: string; onText: (text: string) => void; example?: unknown }) {
  const [asJSON, setJSON] = useState(false);
  const parsed = parseSpec(text);
  const error = "error" in parsed ? parsed.error : undefined;
  return (
    <>
      <div class="actions" role="group" aria-label="Form or JSON">
        <Button small pressed={!asJSON} onClick={() => setJSON(false)}>
          Form
        </Button>
        <Button small pressed={asJSON} onClick={() => setJSON(true)}>
          JSON
        </Button>
      </div>
      {asJSON || "error" in parsed ? (
        <Field label="Spec" rows={18} mono value={text} onInput={onText} error={error} hint="docs/etl-inline.md and docs/etl-async.md have its fields." />
      ) : (
        <SpecForm spec={parsed.spec} onSpec={(s) => onText(specText(s))} example={example} />
      )}
    </>
  );
}

function SpecForm({ spec, onSpec, example }: { spec: Spec; onSpec: (s: Spec) => void; example?: unknown }) {
  // with is the spec with a field set, or without it.
  const set = (change: Partial<Spec>) => {
    const next: Record<string, unknown> = { ...spec, ...change };
    for (const [key, value] of Object.entries(next)) {
      if (value === undefined || value === "" || (Array.isArray(value) && value.length === 0 && key !== "topics")) delete next[key];
    }
    onSpec(next as unknown as Spec);
  };
  const isAsync = spec.mode === "async";
  const policy = policyOf(spec);
  const number = (label: string, key: "stage" | "priority" | "deadline_ms" | "memory_bytes" | "fuel" | "instances", hint: string, min: number, max?: number) => (
    <Field
      label={label}
      type="number"
      min={min}
      max={max}
      value={spec[key] === undefined ? "" : String(spec[key])}
      onInput={(v) => set({ [key]: v === "" ? undefined : Number(v) })}
      hint={hint}
    />
  );
  return (
    <div class="form">
      <div class="fields">
        <Select
          label="When it runs"
          value={spec.mode}
          onChange={(mode) => set(mode === "async" ? { mode: "async", stage: undefined, on_failure: spec.on_failure === "reject" ? undefined : spec.on_failure } : { mode: "inline", output: undefined })}
          options={[
            { value: "inline", label: "inline: before records are appended" },
            { value: "async", label: "async: behind the producers, to an output topic" },
          ]}
        />
        <Lines label="Topics, one a line" value={spec.topics} onValue={(topics) => set({ topics })} hint="Names, or patterns: events.*, prefix:eu., regex:^a+$; ! before one excludes." rows={3} />
      </div>
      <div class="fields">
        <Select
          label="What it rejects, or fails on"
          value={policy}
          onChange={(p) => set({ on_failure: p as Spec["on_failure"], dead_letter_topic: p === "dead-letter" ? (spec.dead_letter_topic ?? "") : undefined })}
          options={[
            ...(isAsync ? [] : [{ value: "reject", label: "reject: the producer's batch is refused" }]),
            { value: "pass", label: "pass: as if the module were not there" },
            { value: "dead-letter", label: "dead-letter: to a topic of its own" },
          ]}
        />
        {policy === "dead-letter" && <Field label="Dead-letter topic" required value={spec.dead_letter_topic ?? ""} onInput={(v) => set({ dead_letter_topic: v.trim() })} />}
        {isAsync && <Field label="Output topic" required value={spec.output ?? ""} onInput={(v) => set({ output: v.trim() })} />}
        <Lines label="Topics it may route to, one a line" value={spec.routes ?? []} onValue={(routes) => set({ routes })} rows={2} />
      </div>
      <JSONField label="Configuration of the module, JSON" rows={8} value={spec.config} onValue={(config) => set({ config })} example={example} />
      <JSONField label="Conditions, a list in JSON" rows={3} value={spec.when} onValue={(when) => set({ when: when as unknown[] | undefined })} hint='It is shown records for which one holds, such as [{"header": "type", "equals": "payment"}]. Empty: all.' />
      <details>
        <summary>Order and limits</summary>
        <div class="fields">
          {!isAsync && number("Stage", "stage", "0 to 2; modules of one stage see the same records.", 0, 2)}
          {!isAsync && number("Priority", "priority", "Within the stage, higher first; 0.", -1_000_000, 1_000_000)}
          {number("Time of a call, ms", "deadline_ms", `${defaults.deadline_ms} unless said otherwise.`, 1, 10_000)}
          {number("Memory of an instance, bytes", "memory_bytes", `${bytes(defaults.memory_bytes)} unless said otherwise.`, 65_536, 2 ** 30)}
          {number("Instances on each broker", "instances", `${defaults.instances} unless said otherwise.`, 1, 64)}
          {number("Fuel of a call", "fuel", "0: no bound but the time.", 0)}
          <Field
            label="Failures that it may have"
            type="number"
            min={1}
            value={spec.error_budget?.failures === undefined ? "" : String(spec.error_budget.failures)}
            onInput={(v) => set({ error_budget: budget({ ...spec.error_budget, failures: v === "" ? undefined : Number(v) }) })}
            hint={`Then it is disabled; ${defaults.failures} unless said otherwise.`}
          />
          <Field
            label="… within, ms"
            type="number"
            min={1000}
            value={spec.error_budget?.window_ms === undefined ? "" : String(spec.error_budget.window_ms)}
            onInput={(v) => set({ error_budget: budget({ ...spec.error_budget, window_ms: v === "" ? undefined : Number(v) }) })}
            hint={`${defaults.window_ms.toLocaleString("en-US")} unless said otherwise.`}
          />
        </div>
      </details>
    </div>
  );
}

// budget is one without what is not set; undefined if nothing is.
function budget(b: NonNullable<Spec["error_budget"]>): Spec["error_budget"] {
  const kept = Object.fromEntries(Object.entries(b).filter(([, v]) => v !== undefined));
  return Object.keys(kept).length > 0 ? kept : undefined;
}

// Lines keeps what is written, so that an empty line can be on its way to a name.
function Lines({ label, value, onValue, hint, rows }: { label: string; value: string[]; onValue: (value: string[]) => void; hint?: string; rows: number }) {
  const [text, setText] = useState(value.join("\n"));
  const shown = lines(text).join("\n") === value.join("\n") ? text : value.join("\n");
  return (
    <Field
      label={label}
      rows={rows}
      mono
      hint={hint}
      value={shown}
      onInput={(t) => {
        setText(t);
        onValue(lines(t));
      }}
    />
  );
}

// JSONField keeps what is written until it is JSON.
function JSONField({ label, rows, value, onValue, hint, example }: { label: string; rows: number; value: unknown; onValue: (value: unknown) => void; hint?: string; example?: unknown }) {
  const written = value === undefined ? "" : JSON.stringify(value, null, 2);
  const [text, setText] = useState(written);
  const [error, setError] = useState("");
  const same = error !== "" || compact(text) === compact(written);
  const take = (t: string) => {
    setText(t);
    if (t.trim() === "") {
      setError("");
      onValue(undefined);
      return;
    }
    try {
      onValue(JSON.parse(t));
      setError("");
    } catch (why) {
      setError(why instanceof Error ? why.message : "It is not JSON.");
    }
  };
  return (
    <div>
      <Field label={label} rows={rows} mono value={same ? text : written} onInput={take} error={error || undefined} hint={hint} />
      {example !== undefined && (
        <Button small onClick={() => take(JSON.stringify(example, null, 2))}>
          Put an example there
        </Button>
      )}
    </div>
  );
}

function compact(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text.trim();
  }
}
