// The list of topics, and how one is made.
import { useMemo, useState } from "preact/hooks";
import { withQuery } from "../../api";
import { bytes, count } from "../../format";
import { useMay, usePages } from "../../hooks";
import { Link, useQuery } from "../../router";
import type { Topic } from "../../types";
import { Badge, Bar, Button, Check, Empty, Loading, Page, ProblemView, Table, type Column } from "../../ui";
import { CreateTopic } from "./create";
import { clamped, topicPath } from "./paths";

const creates = "POST /api/v1/topics";

export default function TopicsPage() {
  const [internal, setInternal] = useQuery("internal");
  const [creating, setCreating] = useState(false);
  const may = useMay([creates]);
  const topics = usePages<Topic>(withQuery("/api/v1/topics", { internal: internal !== "" }), "topics", { every: 15 });
  const create = may[creates] && (
    <Button kind="primary" onClick={() => setCreating(true)}>
      Create a topic
    </Button>
  );
  const sums = useMemo(() => sumOf(topics.rows), [topics.rows]);
  return (
    <Page title="Topics" sub={topics.complete ? `${count(topics.rows.length)} topics, ${count(sums.partitions)} partitions` : undefined} actions={create}>
      <ProblemView error={topics.error} retry={topics.reload} />
      {topics.loading ? (
        <Loading what="Reading topics" />
      ) : (
        !(topics.error && topics.rows.length === 0) && (
          <>
            {topics.rows.length > 0 && (
              <div class="card">
                <h2>Bytes by tier</h2>
                <Bar label="Bytes by tier" parts={[{ name: "Bucket", value: sums.bucket, tone: 1 }, { name: "WAL of leaders", value: sums.wal, tone: 2 }]} />
              </div>
            )}
            <Table
              label="topics"
              columns={columns}
              rows={topics.rows}
              rowKey={(t) => t.name}
              filter={(t) => t.name}
              sorted="name"
              actions={<Check label="Internal topics" checked={internal !== ""} onChange={(on) => setInternal(on ? "1" : "")} />}
              empty={
                <Empty title="There is no topic yet." command="rustmq admin topics create orders -p 3">
                  {create ? <p>Make the first with the button above, or by this command. Where it is allowed, a producer makes one by writing to it.</p> : <p>Those that you may describe will be here.</p>}
                  <Check label="Show internal topics" checked={internal !== ""} onChange={(on) => setInternal(on ? "1" : "")} />
                </Empty>
              }
            />
          </>
        )
      )}
      {creating && <CreateTopic onClose={() => setCreating(false)} onCreated={topics.reload} />}
    </Page>
  );
}

function sumOf(topics: Topic[]): { partitions: number; bucket: number; wal: number } {
  const sums = { partitions: 0, bucket: 0, wal: 0 };
  for (const t of topics) {
    sums.partitions += t.partitions;
    sums.bucket += t.bucket_bytes;
    sums.wal += t.wal_bytes;
  }
  return sums;
}

// Health is what of a topic needs a person, in a word.
export function Health({ topic }: { topic: Topic }) {
  if (topic.leaderless) return <Badge kind="bad">{count(topic.leaderless)} without leader</Badge>;
  if (topic.under_replicated) return <Badge kind="warn">{count(topic.under_replicated)} under-replicated</Badge>;
  return <Badge kind="ok">well</Badge>;
}

// ill sorts what needs a person to one end.
function ill(t: Topic): number {
  return (t.leaderless ?? 0) * 1e6 + (t.under_replicated ?? 0);
}

const columns: Column<Topic>[] = [
  {
    key: "name",
    title: "Topic",
    sort: (t) => t.name,
    show: (t) => (
      <>
        <Link class={clamped(t.name)} title={t.name} href={topicPath(t.name)}>
          {t.name}
        </Link>{" "}
        {t.internal && <Badge>internal</Badge>}
      </>
    ),
  },
  { key: "health", title: "Health", sort: ill, show: (t) => <Health topic={t} /> },
  { key: "partitions", title: "Partitions", right: true, sort: (t) => t.partitions, show: (t) => count(t.partitions) },
  { key: "replicas", title: "Replicas", right: true, sort: (t) => t.replication_factor, show: (t) => count(t.replication_factor) },
  { key: "records", title: "Records", right: true, sort: (t) => t.records, show: (t) => count(t.records) },
  { key: "bucket", title: "In the bucket", right: true, sort: (t) => t.bucket_bytes, show: (t) => bytes(t.bucket_bytes) },
  { key: "wal", title: "In the WAL", right: true, sort: (t) => t.wal_bytes, show: (t) => bytes(t.wal_bytes) },
  { key: "memory", title: "In memory", right: true, sort: (t) => t.memory_bytes, show: (t) => bytes(t.memory_bytes) },
];
