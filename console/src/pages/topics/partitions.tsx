// The partitions of a topic: who leads them, who is in sync, and where their records are.
import { grouped } from "../../exact";
import { bytes, count } from "../../format";
import { Link } from "../../router";
import type { Partition, Topic } from "../../types";
import { Badge, Bar, Table, type Column } from "../../ui";
import { brokerPath } from "./paths";

const noLeader = -1;

export function Partitions({ topic }: { topic: Topic }) {
  return (
    <Table
      label="partitions"
      dense
      columns={columns}
      rows={topic.partition_list ?? []}
      rowKey={(p) => String(p.partition)}
      filter={(p) => `${p.partition} leader ${p.leader} ${state(p)}`}
      sorted="partition"
      name="p"
      more={<p class="hint">What is uploaded stays in the WAL of its leader until the room is wanted, so that both may have it. Offsets before the first in the WAL are read from the bucket.</p>}
    />
  );
}

function state(p: Partition): string {
  if (p.leader === noLeader) return "no leader";
  return (p.isr ?? []).length < (p.replicas ?? []).length ? "under-replicated" : "well";
}

function State({ partition: p }: { partition: Partition }) {
  const is = state(p);
  return (
    <>
      <Badge kind={is === "well" ? "ok" : is === "no leader" ? "bad" : "warn"}>{is}</Badge>
      {p.unknown && <p class="hint">{p.unknown}</p>}
    </>
  );
}

// Replicas are brokers, those in sync first told apart by a word too.
function Replicas({ partition: p }: { partition: Partition }) {
  const isr = new Set(p.isr ?? []);
  return (
    <>
      {(p.replicas ?? []).map((id, i) => (
        <span key={id}>
          {i > 0 && ", "}
          {isr.has(id) ? id : <s title={`${id} is not in sync`}>{id}</s>}
          {!isr.has(id) && <span class="hidden"> (not in sync)</span>}
        </span>
      ))}
    </>
  );
}

const columns: Column<Partition>[] = [
  { key: "partition", title: "Partition", sort: (p) => p.partition, show: (p) => p.partition },
  { key: "state", title: "State", sort: state, show: (p) => <State partition={p} /> },
  { key: "leader", title: "Leader", right: true, sort: (p) => p.leader, show: (p) => (p.leader === noLeader ? "none" : <Link href={brokerPath(p.leader)}>{p.leader}</Link>) },
  { key: "replicas", title: "Replicas (in sync)", show: (p) => <Replicas partition={p} /> },
  { key: "start", title: "Log start", right: true, sort: (p) => p.log_start, show: (p) => grouped(p, "log_start") },
  { key: "end", title: "High watermark", right: true, sort: (p) => p.high_watermark, show: (p) => grouped(p, "high_watermark") },
  { key: "local", title: "WAL from", right: true, sort: (p) => p.local_start, show: (p) => grouped(p, "local_start") },
  { key: "bucket", title: "In the bucket", right: true, sort: (p) => p.bucket_bytes, show: (p) => bytes(p.bucket_bytes) },
  { key: "wal", title: "In the WAL", right: true, sort: (p) => p.wal_bytes, show: (p) => bytes(p.wal_bytes) },
  {
    key: "tiers",
    title: "Bytes by tier",
    sort: (p) => p.bucket_bytes + p.wal_bytes,
    show: (p) => (
      <div class="tiers">
        <Bar
          label={`Bytes of partition ${p.partition}`}
          legend={false}
          parts={[
            { name: "Bucket", value: p.bucket_bytes, tone: 1 },
            { name: "WAL", value: Math.max(0, p.wal_bytes - p.memory_bytes), tone: 2 },
            { name: "WAL, in memory too", value: Math.min(p.wal_bytes, p.memory_bytes), tone: 3 },
          ]}
        />
      </div>
    ),
  },
  { key: "epoch", title: "Epoch", right: true, sort: (p) => p.leader_epoch, show: (p) => count(p.leader_epoch) },
];
