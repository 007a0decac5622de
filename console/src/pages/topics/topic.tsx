// One topic: what it is, and in tabs what it holds and what is done with it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes, count, short } from "../../format";
import { useGet, useMay } from "../../hooks";
import type { PageProps } from "../../router";
import type { Topic } from "../../types";
import { Badge, Bar, Button, KeyValue, Loading, Page, ProblemView, Section, Tabs } from "../../ui";
import { AddPartitions, DeleteRecords, DeleteTopic } from "./change";
import { Configs } from "./configs";
import { Consumers } from "./consumers";
import { Health } from "./index";
import { Messages } from "./messages";
import { Partitions } from "./partitions";
import { topicCalls, topicURL } from "./paths";
import { Produce } from "./produce";

type Open = "" | "produce" | "grow" | "trim" | "delete";

export default function TopicPage({ params }: PageProps) {
  const name = params["name"] ?? "";
  const calls = useMemo(() => topicCalls(name), [name]);
  const may = useMay(Object.values(calls));
  const [large, setLarge] = useState(false);
  const topic = useGet<Topic>(topicURL(name), { every: large ? 30 : 5 });
  const [open, setOpen] = useState<Open>("");
  const [sent, setSent] = useState(0); // records sent by hand, after which messages are looked at anew
  const t = topic.data;
  useEffect(() => setLarge((t?.partitions ?? 0) > 500), [t]);
  const perSecond = useRate(t);
  const close = () => setOpen("");
  return (
    <Page
      title={name}
      sub={
        t && (
          <>
            <Health topic={t} /> {t.internal && <Badge>internal</Badge>} {t.durability}
          </>
        )
      }
      actions={
        t && (
          <>
            {may[calls.send] && !t.internal && (
              <Button kind="primary" onClick={() => setOpen("produce")}>
                Produce a record
              </Button>
            )}
            {may[calls.grow] && !t.internal && <Button onClick={() => setOpen("grow")}>Add partitions</Button>}
            {may[calls.trim] && !t.internal && <Button onClick={() => setOpen("trim")}>Delete records</Button>}
            {may[calls.remove] && !t.internal && (
              <Button kind="danger" onClick={() => setOpen("delete")}>
                Delete
              </Button>
            )}
          </>
        )
      }
    >
      <ProblemView error={topic.error} retry={topic.reload} />
      {topic.loading && <Loading what="Reading the topic" />}
      {t && (
        <>
          <div class="cards figures">
            <div class="card">
              <h2>Records</h2>
              <p class="figure">{count(t.records)}</p>
              <p class="muted">{perSecond === undefined ? "how fast they come is known in a moment" : `${short(perSecond)} records/s come in`}</p>
            </div>
            <div class="card">
              <h2>Partitions</h2>
              <p class="figure">{count(t.partitions)}</p>
              <p class="muted">
                of {count(t.replication_factor)} {t.replication_factor === 1 ? "replica" : "replicas"}
                {t.grows && ", which become three as brokers join"}
              </p>
            </div>
            <div class="card">
              <h2>Bytes</h2>
              <Tiers bucket={t.bucket_bytes} wal={t.wal_bytes} memory={t.memory_bytes} />
            </div>
          </div>
          <Tabs
            label={`Topic ${name}`}
            tabs={[
              { id: "partitions", title: "Partitions", show: () => <Partitions topic={t} /> },
              ...(may[calls.messages] ? [{ id: "messages", title: "Messages", show: () => <Messages topic={name} partitions={t.partitions} turn={sent} /> }] : []),
              ...(may[calls.configs] ? [{ id: "config", title: "Configuration", show: () => <Configs topic={name} alter={(may[calls.alter] ?? false) && !t.internal} onChanged={topic.reload} /> }] : []),
              { id: "consumers", title: "Consumers", show: () => <Consumers topic={name} /> },
              { id: "about", title: "About", show: () => <About topic={t} /> },
            ]}
          />
          {open === "produce" && (
            <Produce
              topic={name}
              partitions={t.partitions}
              onClose={close}
              onSent={() => {
                setSent((n) => n + 1);
                topic.reload();
              }}
            />
          )}
          {open === "grow" && <AddPartitions topic={t} onClose={close} onDone={topic.reload} />}
          {open === "trim" && <DeleteRecords topic={t} onClose={close} onDone={topic.reload} />}
          {open === "delete" && <DeleteTopic topic={t} onClose={close} />}
        </>
      )}
    </Page>
  );
}

function About({ topic }: { topic: Topic }) {
  return (
    <Section title="About">
      <KeyValue
        items={[
          ["Name", <code class="name">{topic.name}</code>],
          ["Topic id", <code>{topic.id}</code>],
          ["Internal", topic.internal ? "yes: it is the cluster's own, and clients only read it" : "no"],
          ["Durability", topic.durability],
          ["Set on it", Object.keys(topic.configs).length === 0 ? "nothing: all is by default, or you may not see it" : Object.entries(topic.configs).map(([key, value]) => `${key}=${value}`).join(", ")],
        ]}
      />
    </Section>
  );
}

// Tiers is where bytes are. What is uploaded stays in the WAL until its room is wanted: both have it.
export function Tiers({ bucket, wal, memory, legend = true }: { bucket: number; wal: number; memory: number; legend?: boolean }) {
  return (
    <Bar
      label="Bytes by tier"
      legend={legend}
      format={bytes}
      parts={[
        { name: "Bucket", value: bucket, tone: 1 },
        { name: "WAL", value: Math.max(0, wal - memory), tone: 2 },
        { name: "WAL, in memory too", value: Math.min(wal, memory), tone: 3 },
      ]}
    />
  );
}

// useRate is how many records a second came between the last two answers: by high watermarks, which
// retention does not move.
function useRate(t: Topic | undefined): number | undefined {
  const was = useRef<{ at: number; end: number; partitions: number } | undefined>(undefined);
  const [perSecond, setRate] = useState<number | undefined>();
  useEffect(() => {
    if (!t) return;
    const list = t.partition_list ?? [];
    if (list.some((p) => p.unknown)) return;
    const is = { at: performance.now(), end: list.reduce((sum, p) => sum + p.high_watermark, 0), partitions: list.length };
    const before = was.current;
    was.current = is;
    if (before && before.partitions === is.partitions && is.at > before.at + 500) setRate(Math.max(0, ((is.end - before.end) * 1000) / (is.at - before.at)));
  }, [t]);
  return perSecond;
}
