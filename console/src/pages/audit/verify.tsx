// The verification of the audit log: whether anything of it was altered, taken out or cut, and the
// hashes that show it later.
import { useState } from "preact/hooks";
import { get } from "../../api";
import { grouped } from "../../exact";
import { count } from "../../format";
import { useAction } from "../../hooks";
import type { AuditReport, Fault } from "../../types";
import { Badge, Button, Command, Dialog, Field, Form, ProblemView, Table, type Column } from "../../ui";

const columns: Column<Fault>[] = [
  { key: "offset", title: "Offset", right: true, show: (f) => (f.offset < 0 ? "–" : grouped(f, "offset")), sort: (f) => f.offset },
  { key: "kind", title: "Fault", show: (f) => f.kind, sort: (f) => f.kind },
  { key: "node", title: "Node", show: (f) => f.node ?? "–" },
  { key: "what", title: "What", show: (f) => f.what },
];

export function Verify({ onClose }: { onClose: () => void }) {
  const [heads, setHeads] = useState("");
  const [report, setReport] = useState<AuditReport>();
  const all = heads.split(/\s+/).filter(Boolean);
  const wrong = all.find((h) => !/^[0-9a-f]{64}$/i.test(h));
  const { go, busy, error } = useAction(async () => {
    setReport(undefined);
    setReport(await get<AuditReport>("/api/v1/audit/verify" + (all.length === 0 ? "" : "?" + all.map((h) => "head=" + encodeURIComponent(h)).join("&"))));
  });
  return (
    <Dialog title="Verify the audit log" onClose={onClose} wide>
      <Form onSubmit={() => wrong === undefined && !busy && go()}>
        <p>All of the log is read, from the bucket too, and the chain of each node followed: every record names the hash of the one before. It may take minutes.</p>
        <Field label="Hashes that were kept before" value={heads} onInput={setHeads} rows={2} mono error={wrong === undefined ? undefined : `“${wrong.slice(0, 20)}…” is no hash of 64 hexadecimal digits.`} hint="Of an earlier verification, one a line: they have to be there still. May be left empty." />
        <Button type="submit" kind="primary" busy={busy} disabled={wrong !== undefined}>
          Verify
        </Button>
        <ProblemView error={error} />
      </Form>
      <div role="status" aria-live="polite">
        {report && <Report report={report} />}
      </div>
    </Dialog>
  );
}

function Report({ report: r }: { report: AuditReport }) {
  return (
    <>
      <div class="decision">
        <Badge kind={r.whole ? "ok" : "bad"}>{r.whole ? "whole" : `broken in ${count(r.broken)} places`}</Badge>
        <p>
          {count(r.events)} events of {count(r.records)} records in {count(r.lives)} chains, offsets {grouped(r, "start")} to {grouped(r, "end")}.
        </p>
      </div>
      {r.cut && <p>Older records were deleted by retention.</p>}
      {r.lost > 0 && <p>{count(r.lost)} events could not be recorded, as the log says itself.</p>}
      {(r.unasked ?? []).length > 0 && <p>Brokers {(r.unasked ?? []).join(", ")} did not say how far they have written: whether the ends of their chains were cut is not known.</p>}
      {(r.faults ?? []).length > 0 && <Table label="Faults" name="fault" columns={columns} rows={r.faults ?? []} rowKey={(f) => JSON.stringify(f)} />}
      {!r.whole && <p>Keep the bucket and the data directories as they are, and see who could write there.</p>}
      {(r.heads ?? []).length > 0 && (
        <>
          <h3>Hashes to keep elsewhere</h3>
          <p>Given back later, they show that nothing up to them was rewritten, whoever had the nodes meanwhile.</p>
          <Command text={(r.heads ?? []).map((h) => h.hash).join("\n")} />
        </>
      )}
    </>
  );
}
