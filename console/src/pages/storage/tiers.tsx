// What of the records is where: in memory, in logs, in the bucket, over all brokers and by topic.
import { useMemo } from "preact/hooks";
import { at } from "../../api";
import { bytes } from "../../format";
import { useGet, usePages } from "../../hooks";
import { Link } from "../../router";
import type { BucketState, NodeReport, NodesOutputBody, Topic } from "../../types";
import { Bar, Empty, Loading, ProblemView, Section, Table, Time, type Column } from "../../ui";
import { Disk, Log } from "../brokers/states";

const topics: Column<Topic>[] = [
  { key: "name", title: "Topic", show: (t) => <Link href={at`/topics/${t.name}`}>{t.name}</Link>, sort: (t) => t.name },
  { key: "memory", title: "In memory", show: (t) => bytes(t.memory_bytes), sort: (t) => t.memory_bytes, right: true },
  { key: "wal", title: "In logs", show: (t) => bytes(t.wal_bytes), sort: (t) => t.wal_bytes, right: true },
  { key: "bucket", title: "In the bucket", show: (t) => bytes(t.bucket_bytes), sort: (t) => t.bucket_bytes, right: true },
  { key: "records", title: "Records, at most", show: (t) => t.records.toLocaleString("en-US"), sort: (t) => t.records, right: true },
];

const brokers: Column<NodeReport>[] = [
  { key: "broker", title: "Broker", show: (n) => <Link href={`/brokers/${n.broker}`}>broker {n.broker}</Link>, sort: (n) => n.broker },
  { key: "log", title: "Log used", show: (n) => <Log figures={n.figures} />, sort: (n) => n.figures?.wal?.fullness ?? -1, right: true },
  { key: "capacity", title: "Capacity", show: (n) => bytes(n.figures?.wal?.capacity_bytes), sort: (n) => n.figures?.wal?.capacity_bytes ?? -1, right: true },
  { key: "waiting", title: "Not in the bucket yet", show: (n) => bytes(n.figures?.upload?.waiting_bytes), sort: (n) => n.figures?.upload?.waiting_bytes ?? -1, right: true },
  { key: "lag", title: "The oldest waits", show: (n) => (n.figures?.upload?.waiting_since ? <Time at={n.figures.upload.waiting_since} relative /> : n.figures ? "nothing does" : "–"), sort: (n) => n.figures?.upload?.waiting_since ?? "" },
  { key: "uploaded", title: "Uploaded", show: (n) => bytes(n.figures?.upload?.bytes), sort: (n) => n.figures?.upload?.bytes ?? -1, right: true },
  { key: "failures", title: "Failures", show: (n) => n.figures?.upload?.failures ?? "–", sort: (n) => n.figures?.upload?.failures ?? -1, right: true },
  { key: "disk", title: "Disk free", show: (n) => <Disk figures={n.figures} />, sort: (n) => n.figures?.disk_free_bytes ?? -1, right: true },
];

export function Tiers({ bucket }: { bucket: BucketState }) {
  const all = usePages<Topic>("/api/v1/topics", "topics", { every: 30, query: { internal: true } });
  const nodes = useGet<NodesOutputBody>("/api/v1/nodes", { every: 5 });
  const sum = useMemo(() => {
    const of = { memory: 0, wal: 0, bucket: 0 };
    for (const t of all.rows) {
      of.memory += t.memory_bytes;
      of.wal += t.wal_bytes;
      of.bucket += t.bucket_bytes;
    }
    return of;
  }, [all.rows]);
  const waiting = (nodes.data?.nodes ?? []).reduce((n, b) => n + (b.figures?.upload?.waiting_bytes ?? 0), 0);
  const stored = Object.values(bucket.objects).reduce((n, t) => n + t.bytes, 0);
  return (
    <>
      <ProblemView error={all.error ?? nodes.error} />
      <Section title="Where the records are">
        {all.loading ? (
          <Loading />
        ) : (
          <>
            <div class="loads">
              <Tier name="Memory" value={sum.memory} most={Math.max(sum.wal, sum.bucket)} what="the newest, of partitions by their leaders" tone={3} />
              <Tier name="Logs" value={sum.wal} most={Math.max(sum.wal, sum.bucket)} what={`in the logs of leaders, replicas not counted; of it ${bytes(waiting)} are not in the bucket yet`} tone={1} />
              <Tier name="Bucket" value={sum.bucket} most={Math.max(sum.wal, sum.bucket)} what={`of records; the objects take ${bytes(stored)}`} tone={4} />
            </div>
            <p class="muted">A record may be in all three: the log keeps what it has room for, and the bucket has what was uploaded.</p>
          </>
        )}
      </Section>
      <Section title="By broker">
        <Table label="brokers" name="brokers" columns={brokers} rows={nodes.data?.nodes ?? []} rowKey={(n) => String(n.broker)} sorted="broker" empty={nodes.loading ? <Loading /> : <Empty title="No broker is in service." />} />
      </Section>
      <Section title="By topic">
        <Table label="topics" name="topics" columns={topics} rows={all.rows} rowKey={(t) => t.name} filter={(t) => t.name} sorted="-bucket" empty={!all.loading && <Empty title="There is no topic that you may see." command="rustmq admin topics create NAME" />} />
      </Section>
    </>
  );
}

function Tier({ name, value, most, what, tone }: { name: string; value: number; most: number; what: string; tone: 1 | 3 | 4 }) {
  return (
    <div>
      <span class="load-name">
        {name} <b>{bytes(value)}</b>
      </span>
      <Bar label={name} of={most} legend={false} parts={[{ name, value, tone }]} />
      <span class="muted">{what}</span>
    </div>
  );
}
