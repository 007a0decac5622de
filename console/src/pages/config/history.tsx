// Who changed what on running nodes, and when: the last 256 changes.
import { useGet } from "../../hooks";
import { useQuery } from "../../router";
import type { ConfigChange } from "../../types";
import { Button, Empty, Loading, ProblemView, Section, Table, Time, type Column } from "../../ui";

interface Row extends ConfigChange {
  key: string;
  old: string | undefined;
  now: string | undefined;
}

const shown = (value: string | undefined) => (value === undefined ? <span class="muted">not set</span> : <code>{value === "" ? "(empty)" : value}</code>);

const columns: Column<Row>[] = [
  { key: "at", title: "Time", show: (r) => <Time at={r.at} />, sort: (r) => r.version },
  { key: "by", title: "By", show: (r) => r.by ?? "nobody was asked", sort: (r) => r.by ?? "" },
  { key: "on", title: "On", show: (r) => (r.broker < 0 ? "all nodes" : `broker ${r.broker}`), sort: (r) => r.broker },
  { key: "key", title: "Key", mono: true, show: (r) => r.key, sort: (r) => r.key },
  { key: "old", title: "Before", show: (r) => shown(r.old) },
  { key: "now", title: "After", show: (r) => shown(r.now) },
];

export function History() {
  const [key, setKey] = useQuery("key");
  const { data, error, loading, reload } = useGet<{ changes: ConfigChange[] | null }>("/api/v1/config/history", { query: { key }, every: 30 });
  const rows = (data?.changes ?? []).flatMap((c) => (c.keys ?? []).map((k): Row => ({ ...c, key: k.key, old: k.old, now: k.new })));
  return (
    <Section
      title="History"
      actions={
        key !== "" && (
          <Button small onClick={() => setKey("")}>
            All keys
          </Button>
        )
      }
    >
      <ProblemView error={error} retry={reload} />
      {loading && <Loading />}
      {data && <Table label="Changes" name="change" columns={columns} rows={rows} rowKey={(r) => `${r.version} ${r.broker} ${r.key}`} filter={(r) => `${r.by ?? ""} ${r.key} ${r.old ?? ""} ${r.now ?? ""}`} empty={<Empty title="Nothing was changed while nodes ran." />} />}
    </Section>
  );
}
