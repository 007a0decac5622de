// How a module is on each broker: ready or not, what it did, what it failed on, how far an async
// one has come.
import { at } from "../../api";
import { grouped } from "../../exact";
import { count, duration } from "../../format";
import { useGet } from "../../hooks";
import { Link } from "../../router";
import type { ETLCounts, ETLModule, ETLNode, ETLNodeModule, ETLPartition, EtlNodesOutputBody } from "../../types";
import { Badge, Bar, Empty, KeyValue, Loading, ProblemView, Section, Table, type BarPart, type Column, type Kind } from "../../ui";
import { defaults, parseSpec, policyOf, type Spec } from "./spec";
import { policyWords } from "./states";

interface Row {
  node: ETLNode;
  is: ETLNodeModule | undefined;
}

export function OnBrokers({ module: m }: { module: ETLModule }) {
  const { data, error, loading, reload } = useGet<EtlNodesOutputBody>("/api/v1/etl/nodes", { every: 3, query: { module: m.name } });
  const stands = (m.versions ?? []).find((v) => v.number === (m.stands || m.active));
  const parsed = stands?.spec === undefined ? undefined : parseSpec(JSON.stringify(stands.spec));
  const spec = parsed && "spec" in parsed ? parsed.spec : undefined;
  if (loading) return <Loading />;
  const rows: Row[] = (data?.nodes ?? []).map((node) => ({ node, is: (node.modules ?? [])[0] }));
  const sum = (data?.modules ?? [])[0];
  const partitions = rows.flatMap((r) => r.is?.partitions ?? []);
  return (
    <>
      <ProblemView error={error} retry={reload} />
      {sum && <Sums counts={sum.counts} recent={sum.recent_failures} spec={spec} lag={m.mode === "async" ? (sum.lag ?? 0) : undefined} />}
      <Section title="On each broker">
        <Table label="brokers" name="brokers" columns={columns} rows={rows} rowKey={(r) => String(r.node.broker)} sorted="broker" empty={!error && <Empty title="No broker is in service." />} />
      </Section>
      {m.mode === "async" && (
        <Section title="Partitions that it reads">
          <Table label="partitions" name="partitions" columns={partitionColumns} rows={partitions} rowKey={(p) => `${p.topic ?? ""}-${p.partition}`} filter={(p) => `${p.topic ?? ""}-${p.partition} ${p.state} ${p.error ?? ""}`} sorted="-lag" empty={<Empty title="It reads no partition." />} />
        </Section>
      )}
    </>
  );
}

const columns: Column<Row>[] = [
  { key: "broker", title: "Broker", show: (r) => <Link href={`/brokers/${r.node.broker}`}>broker {r.node.broker}</Link>, sort: (r) => r.node.broker },
  { key: "state", title: "State", show: (r) => <State row={r} />, sort: (r) => (r.is?.ready ? 0 : 1) },
  { key: "version", title: "Version", show: (r) => (r.is?.active ? r.is.version : "–"), sort: (r) => r.is?.version ?? 0, right: true },
  { key: "calls", title: "Calls", show: (r) => count(r.is?.counts.calls), sort: (r) => r.is?.counts.calls ?? -1, right: true },
  { key: "records", title: "Records", show: (r) => count(r.is?.counts.records), sort: (r) => r.is?.counts.records ?? -1, right: true },
  { key: "time", title: "Time of a call", show: (r) => perCall(r.is?.counts), sort: (r) => r.is?.counts.seconds ?? -1, right: true },
  { key: "failures", title: "Failures", show: (r) => count(r.is?.counts.failures), sort: (r) => r.is?.counts.failures ?? -1, right: true },
  { key: "error", title: "Last error", show: (r) => r.is?.error ?? r.node.unknown ?? "" },
];

const partitionKinds: Record<string, Kind> = { running: "ok", starting: "info", waiting: "warn", refused: "bad" };

const partitionColumns: Column<ETLPartition>[] = [
  { key: "topic", title: "Partition", show: (p) => (p.topic ? <Link href={at`/topics/${p.topic}`}>{`${p.topic}-${p.partition}`}</Link> : "–"), sort: (p) => `${p.topic ?? ""}-${p.partition}` },
  { key: "state", title: "State", show: (p) => <Badge kind={partitionKinds[p.state] ?? "muted"}>{p.state}</Badge>, sort: (p) => p.state },
  { key: "committed", title: "Read up to", show: (p) => (p.committed < 0 ? "–" : grouped(p, "committed")), sort: (p) => p.committed, right: true },
  { key: "end", title: "End", show: (p) => (p.end < 0 ? "–" : grouped(p, "end")), sort: (p) => p.end, right: true },
  { key: "lag", title: "Lag", show: (p) => grouped(p, "lag"), sort: (p) => p.lag, right: true },
  { key: "error", title: "What is tried again", show: (p) => p.error ?? "" },
];

function State({ row: { node, is } }: { row: Row }) {
  if (node.unknown) return <Badge kind="warn">not known</Badge>;
  if (!is?.active) return <Badge>not active</Badge>;
  return is.ready ? <Badge kind="ok">ready</Badge> : <Badge kind="bad">not ready</Badge>;
}

function perCall(c: ETLCounts | undefined): string {
  return c?.seconds && c.calls > 0 ? duration(c.seconds / c.calls) : "–";
}

const tones: Record<string, BarPart["tone"]> = { kept: 3, dropped: 6, routed: 4, rejected: 5, passed: 1, "dead-lettered": 2, dead_letter: 2 };

function Sums({ counts: c, recent, spec, lag }: { counts: ETLCounts; recent: number; spec: Spec | undefined; lag: number | undefined }) {
  // What an inline module rejects is counted once more by what its policy makes of it, unless that
  // refuses the batch.
  const refuses = spec !== undefined && policyOf(spec) === "reject";
  const outcomes = Object.entries(c.outcomes)
    .filter(([name]) => name !== "rejected" || refuses)
    .sort(([a], [b]) => a.localeCompare(b));
  const stayed = c.records - outcomes.reduce((n, [, v]) => n + v, 0);
  const parts: BarPart[] = outcomes.map(([name, value]) => ({ name: name.replace("_", " "), value, tone: tones[name] ?? 1 }));
  if (stayed > 0) parts.unshift({ name: "stayed in their batch", value: stayed, tone: 3 });
  const most = spec?.error_budget?.failures ?? defaults.failures;
  const window = (spec?.error_budget?.window_ms ?? defaults.window_ms) / 1000;
  return (
    <div class="cards wide">
      <Section title="What became of records">
        {c.records > 0 ? <Bar label="what became of records" format={count} parts={parts} /> : <p class="muted">It was shown no record since the brokers started.</p>}
        <KeyValue
          items={[
            ["Calls", count(c.calls)],
            ["Rejected by it", refuses || c.outcomes["rejected"] === undefined ? undefined : count(c.outcomes["rejected"])],
            ["Records", count(c.records)],
            ["Time of a call", lag === undefined ? perCall(c) : undefined],
            ["Lag", lag === undefined ? undefined : `${count(lag)} records`],
            ["Begun anew", c.restarts || undefined],
            ["Offsets passed over", c.skipped || undefined],
          ]}
        />
      </Section>
      <Section title="Error budget">
        <Bar
          label="error budget of the broker that has used most of it"
          format={count}
          of={most}
          parts={[{ name: "failures of late", value: Math.min(recent, most), tone: 5 }]}
        />
        <KeyValue
          items={[
            ["It may fail", `${count(most)} times within ${duration(window)}, on each broker`],
            ["Failures in all", count(c.failures)],
            ["Of what it fails on", spec && policyWords(spec.mode, policyOf(spec), spec.dead_letter_topic)],
          ]}
        />
      </Section>
    </div>
  );
}
