// A comparison of the bucket with the catalogue, part by part, as `rustmq admin storage check`.
import { useEffect, useRef, useState } from "preact/hooks";
import { asProblem, post, type Problem } from "../../api";
import { exact } from "../../exact";
import { bytes, count } from "../../format";
import { useMay } from "../../hooks";
import type { CheckReport, CheckRequest, Finding, Tally } from "../../types";
import { Badge, Button, Check as Box, Confirm, ProblemView, Section, Table, type Column, type Kind } from "../../ui";

const call = "POST /api/v1/storage/check";

const rows: { key: keyof CheckReport & string; what: string; bad?: Kind; verify?: boolean; repair?: boolean }[] = [
  { key: "committed", what: "named by the catalogue, and there" },
  { key: "prepared", what: "uploads under way, or given up in a while" },
  { key: "condemned", what: "named by nothing any more, deleted in a while" },
  { key: "missing", what: "named by the catalogue, and not there", bad: "bad" },
  { key: "wrong_size", what: "named by the catalogue with another size", bad: "bad" },
  { key: "verified", what: "read, every byte", verify: true },
  { key: "corrupt", what: "with damage, of those that were read (manifests always are)", bad: "bad" },
  { key: "orphans", what: "came after their deletion; they go once two listings have shown them", bad: "warn" },
  { key: "deleted", what: "orphans that were deleted now", repair: true },
  { key: "unjudged", what: "a manifest that cannot be read may list them: left alone", bad: "warn" },
  { key: "foreign", what: "never issued here: left alone", bad: "warn" },
];

const findings: Column<Finding>[] = [
  { key: "kind", title: "Found", show: (f) => f.kind, sort: (f) => f.kind },
  { key: "key", title: "Key", show: (f) => f.key, sort: (f) => f.key, mono: true },
  { key: "records", title: "Records", show: (f) => (f.range ? `${f.range.topic}-${f.range.partition} [${exact(f.range, "base")}, ${exact(f.range, "end")})` : "–") },
  { key: "detail", title: "Detail", show: (f) => f.detail },
];

// together adds a part to what the parts before have shown.
function together(whole: CheckReport | undefined, part: CheckReport): CheckReport {
  if (!whole) return part;
  const sum = { ...part, findings: [...(whole.findings ?? []), ...(part.findings ?? [])] };
  for (const { key } of rows) {
    const a = whole[key] as Tally;
    const b = part[key] as Tally;
    (sum as Record<string, unknown>)[key] = { objects: a.objects + b.objects, bytes: a.bytes + b.bytes };
  }
  return sum;
}

// share of the keys that lie before one: they begin with two hex digits, each pair as often.
function share(next: string): number {
  const n = Number.parseInt(next.slice(0, 2), 16);
  return Number.isNaN(n) ? 0 : n / 256;
}

export function Check() {
  const may = useMay([call])[call];
  const [verify, setVerify] = useState(false);
  const [asksRepair, setAsksRepair] = useState(false);
  const [report, setReport] = useState<CheckReport | undefined>();
  const [asked, setAsked] = useState<CheckRequest>({});
  const [running, setRunning] = useState(false);
  const [error, setError] = useState<Problem | undefined>();
  const abort = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => abort.current?.abort(), []);
  const run = async (request: CheckRequest) => {
    const own = new AbortController();
    abort.current = own;
    setRunning(true);
    setError(undefined);
    setReport(undefined);
    setAsked(request);
    let whole: CheckReport | undefined;
    try {
      for (let after = ""; ; ) {
        const part = await post<CheckReport>("/api/v1/storage/check", { ...request, after, findings: 20 }, { signal: own.signal });
        whole = together(whole, part);
        setReport(whole);
        after = part.next;
        if (after === "") break;
      }
    } catch (thrown) {
      if (!own.signal.aborted) setError(asProblem(thrown));
    }
    setRunning(false);
  };
  if (!may) return <p class="muted">A check asks for the right to alter the cluster, which you do not have.</p>;
  const damaged = report && report.missing.objects + report.wrong_size.objects + report.corrupt.objects > 0;
  const done = report && report.next === "" && !running;
  return (
    <>
      <Section
        title="Compare the bucket with the catalogue"
        actions={
          running ? (
            <Button onClick={() => abort.current?.abort()}>Stop</Button>
          ) : (
            <>
              <Button kind="primary" onClick={() => void run({ verify })}>
                Check
              </Button>
              {done && report.orphans.objects > 0 && <Button onClick={() => setAsksRepair(true)}>Delete orphans…</Button>}
            </>
          )
        }
      >
        <p class="muted">Lists the objects of the cluster, and compares them with what the metadata say. Nothing is changed.</p>
        <Box label="Read every byte, and compare it with its checksum" hint="It takes as long as reading the whole bucket, and costs as many requests." checked={verify} onChange={setVerify} disabled={running} />
        {running && (
          <>
            <progress max={1} value={share(report?.next ?? "")} aria-label="Keys that were compared" />
            <p class="muted" role="status">
              {count(report?.committed.objects ?? 0)} objects so far{verify && `, ${bytes(report?.verified.bytes ?? 0)} read`}
            </p>
          </>
        )}
        <ProblemView error={error} />
      </Section>
      {report && (
        <Section title={done ? "What was found" : "What was found so far"}>
          <p role="status">
            {damaged ? (
              <>
                <Badge kind="bad">damaged</Badge> Records are missing, or damaged. Keep the bucket as it is, and what is still in the logs of the brokers; docs/storage.md says what to do.
              </>
            ) : done ? (
              <><Badge kind="ok">well</Badge> All that the catalogue names is there.</>
            ) : null}
          </p>
          <div class="table-scroll" tabIndex={0} role="region" aria-label="objects by what they are">
            <table>
              <thead>
                <tr>
                  <th scope="col">Objects</th>
                  <th scope="col" class="right">
                    Number
                  </th>
                  <th scope="col" class="right">
                    Bytes
                  </th>
                  <th scope="col">What they are</th>
                </tr>
              </thead>
              <tbody>
                {rows
                  .filter((r) => (!r.verify || asked.verify) && (!r.repair || asked.repair))
                  .map((r) => {
                    const tally = report[r.key] as Tally;
                    return (
                      <tr key={r.key}>
                        <th scope="row">{r.key.replace("_", " ")}</th>
                        <td class="right">{r.bad && tally.objects > 0 ? <Badge kind={r.bad}>{count(tally.objects)}</Badge> : count(tally.objects)}</td>
                        <td class="right">{bytes(tally.bytes)}</td>
                        <td>{r.what}</td>
                      </tr>
                    );
                  })}
              </tbody>
            </table>
          </div>
        </Section>
      )}
      {report && (report.findings ?? []).length > 0 && (
        <Section title="The first of each kind">
          <Table label="findings" name="findings" columns={findings} rows={report.findings ?? []} rowKey={(f) => f.kind + f.key + (f.position ?? "")} filter={(f) => `${f.kind} ${f.key} ${f.detail}`} />
        </Section>
      )}
      {asksRepair && (
        <Confirm
          title="Delete orphans"
          action="Delete them"
          typed="orphans"
          onConfirm={async () => void run({ verify: false, repair: true })}
          onClose={() => setAsksRepair(false)}
        >
          <p>Those are deleted that an earlier check has seen too, object_storage.grace ago, as the server does by itself. What the catalogue names is never deleted, nor is what is not known here.</p>
        </Confirm>
      )}
    </>
  );
}
