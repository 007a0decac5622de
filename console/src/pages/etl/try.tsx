// A module tried on records: each before and after, with what is decided about it and why. Nothing
// is changed by it.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { bytes, count, duration, fromBase64, hex } from "../../format";
import { useAction } from "../../hooks";
import { useQuery } from "../../router";
import type { ETLHeader, ETLRecord, ETLTrial, ETLTried } from "../../types";
import { Badge, Button, Check, Empty, ProblemView, Section, Select, type Kind } from "../../ui";
import { indented } from "../../text";
import { diffLines, type Line } from "./diff";
import { SampleOf, type Sample } from "./sample";
import { plainTopics, policyOf, type Spec } from "./spec";
import { policyWords } from "./states";

const kinds: Record<string, Kind> = { keep: "muted", change: "info", drop: "warn", route: "info", reject: "bad", skip: "muted" };
const words: Record<string, string> = { keep: "kept as it is", change: "changed", drop: "dropped", route: "routed", reject: "rejected", skip: "not shown to the module" };
const shownAtOnce = 100;

// Try has records chosen and the module run on them. run asks the server.
export function Try({ spec, run }: { spec: Spec | undefined; run: (sample: ETLRecord[], topic: string) => Promise<ETLTrial> }) {
  const [sample, setSample] = useState<Sample | undefined>();
  const [trial, setTrial] = useState<ETLTrial | undefined>();
  const go = useAction(async () => {
    if (sample) setTrial(await run(sample.records, sample.topic));
  });
  return (
    <>
      <SampleOf
        topics={spec ? plainTopics(spec) : []}
        onSample={(s) => {
          setSample(s);
          setTrial(undefined);
        }}
      />
      {sample && (
        <>
          <p role="status">
            {count(sample.records.length)} {sample.records.length === 1 ? "record" : "records"}: {sample.from}.{sample.left && ` Left out: ${sample.left}.`}
          </p>
          <Button kind="primary" busy={go.busy} disabled={sample.records.length === 0} onClick={go.go}>
            Try the module on them
          </Button>
        </>
      )}
      <ProblemView error={go.error} />
      {trial && <TrialView trial={trial} spec={spec} />}
    </>
  );
}

// TrialView is what became of each record.
export function TrialView({ trial, spec }: { trial: ETLTrial; spec: Spec | undefined }) {
  const records = trial.records ?? [];
  const [only, setOnly] = useQuery("decision");
  const [asHex, setHex] = useState(false);
  const [most, setMost] = useState(shownAtOnce);
  const counts = new Map<string, number>();
  for (const r of records) counts.set(r.action, (counts.get(r.action) ?? 0) + 1);
  const kept = records.map((r, i) => ({ r, number: i + 1 })).filter(({ r }) => only === "" || r.action === only);
  const logs = trial.logs ?? [];
  return (
    <Section title={`What it does with records of ${trial.topic}`}>
      <p role="status">
        {[...counts].map(([action, n]) => (
          <span key={action}>
            <Badge kind={kinds[action] ?? "muted"}>
              {words[action] ?? action}: {n}
            </Badge>{" "}
          </span>
        ))}
        <span class="muted">
          Loaded in {duration(trial.load_us / 1e6)}
          {records.length > 0 && `; the calls took ${duration(trial.call_us / 1e6)}, ${duration(trial.call_us / 1e6 / records.length)} a record`}.
        </span>
      </p>
      {records.length > 0 && (
        <div class="fields">
          <Select label="Show" value={only} onChange={setOnly} options={[{ value: "", label: `all ${records.length}` }, ...[...counts].map(([a, n]) => ({ value: a, label: `${words[a] ?? a} (${n})` }))]} />
          <Check label="Bytes in hex" checked={asHex} onChange={setHex} />
        </div>
      )}
      {kept.slice(0, most).map(({ r, number }) => (
        <Tried key={number} number={number} tried={r} spec={spec} asHex={asHex} />
      ))}
      {kept.length > most && <Button onClick={() => setMost(most + shownAtOnce)}>Show more of {kept.length}</Button>}
      {records.length > 0 && kept.length === 0 && <Empty title="No record of that decision." />}
      {logs.length > 0 && (
        <>
          <h3>The module says</h3>
          <pre tabIndex={0}>{logs.join("\n")}</pre>
        </>
      )}
    </Section>
  );
}

// fate is what becomes of a record in a broker, by the policy of the spec too.
function fate(t: ETLTried, spec: Spec | undefined): string {
  const policy = spec ? policyWords(spec.mode, policyOf(spec), spec.dead_letter_topic) : "on_failure says what becomes of it";
  if (t.error) return `${t.error}; it counts as a failure: ${policy}`;
  const output = spec?.mode === "async" ? ` and goes to ${spec.output ?? "the output"}` : "";
  switch (t.action) {
    case "route":
      return `goes to ${t.text ?? "another topic"}${t.after ? ", changed" : ", as it is"}`;
    case "reject":
      return `${t.text ?? "without a reason"}; ${policy.replace("they go", "it goes").replace("they stay", "it stays").replace("they", "it")}`;
    case "skip":
      return `no condition of the spec holds for it: it is kept${output}`;
    case "change":
      return `its content is another${output}`;
    case "keep":
      return output ? `it is kept${output}` : "";
    case "drop":
      return "its offset stays empty";
  }
}

function Tried({ number, tried: t, spec, asHex }: { number: number; tried: ETLTried; spec: Spec | undefined; asHex: boolean }) {
  const said = fate(t, spec);
  return (
    <article class="trial" aria-label={`Record ${number}`}>
      <header>
        <b>{number}</b> <Badge kind={t.error ? "bad" : (kinds[t.action] ?? "muted")}>{t.error ? "failed" : (words[t.action] ?? t.action)}</Badge>
        {said && <span>{said}</span>}
      </header>
      <Sides before={t.before} after={t.after} asHex={asHex} />
    </article>
  );
}

function Sides({ before, after, asHex }: { before: ETLRecord; after: ETLRecord | undefined; asHex: boolean }) {
  const parts: { name: string; before: string; after: string }[] = [
    { name: "Key", before: shown(before.key, before.key_base64, asHex), after: shown(after?.key, after?.key_base64, asHex) },
    { name: "Value", before: shown(before.value, before.value_base64, asHex), after: shown(after?.value, after?.value_base64, asHex) },
    { name: "Headers", before: headers(before.headers, asHex), after: headers(after?.headers, asHex) },
  ].filter((p) => p.name === "Value" || p.before !== none || (after && p.after !== none));
  const differs = parts.map((p) => (after ? diffLines(p.before, p.after) : undefined));
  const side = (title: string, text: (i: number) => ComponentChildren) => (
    <div class="side">
      <h3>{title}</h3>
      <dl>
        {parts.map((p, i) => (
          <div key={p.name}>
            <dt>{p.name}</dt>
            <dd>
              <pre tabIndex={0}>{text(i)}</pre>
            </dd>
          </div>
        ))}
      </dl>
    </div>
  );
  if (!after) return <div class="sides">{side("Record", (i) => parts[i]?.before)}</div>;
  return (
    <div class="sides two">
      {side("Before", (i) => (differs[i]?.before ?? []).map((l, n) => <Marked key={n} line={l} as="del" />))}
      {side("After", (i) => (differs[i]?.after ?? []).map((l, n) => <Marked key={n} line={l} as="ins" />))}
    </div>
  );
}

function Marked({ line, as }: { line: Line; as: "del" | "ins" }) {
  if (line.same) return <>{line.text + "\n"}</>;
  return as === "del" ? <del>{line.text || " "}</del> : <ins>{line.text || " "}</ins>;
}

const none = "null";

function shown(text: string | null | undefined, base64: string | undefined, asHex: boolean): string {
  if (base64 !== undefined && base64 !== "") {
    const data = fromBase64(base64);
    return asHex || data.length <= 1024 ? hex(data) : `${bytes(data.length)} that are no text`;
  }
  if (text === undefined || text === null) return none;
  return asHex ? hex(new TextEncoder().encode(text)) : (indented(text) ?? text);
}

function headers(all: ETLHeader[] | null | undefined, asHex: boolean): string {
  if (!all || all.length === 0) return none;
  return all.map((h) => `${h.key}: ${shown(h.value, h.value_base64, asHex)}`).join("\n");
}
