// The records of a topic: the newest, those from an offset or a time on, and what comes, filtered by
// the server. What is looked at stands in the address.
import { useMemo, useState } from "preact/hooks";
import { exact } from "../../exact";
import { count, fromLocal, toLocal } from "../../format";
import { setQuery, usePlace } from "../../router";
import type { Message } from "../../types";
import { Badge, Button, Field, Form, Loading, ProblemView, Select, Table, Time, type Column, type Kind } from "../../ui";
import { keyOf, PartPreview, RecordDialog, valueOf } from "./record";
import { mostKept, mostPartitions, useTail, type Asked, type From, type Tail } from "./tail";
import { preview } from "../../text";

const froms: { value: From; label: string }[] = [
  { value: "newest", label: "the newest records" },
  { value: "now", label: "live, from now on" },
  { value: "start", label: "from the beginning" },
  { value: "offset", label: "from an offset" },
  { value: "time", label: "from a time" },
];

const rates = ["10", "50", "200", "500"];

function useAsked(): Asked {
  const { query } = usePlace();
  const text = (key: string, fallback = "") => query.get(key) ?? fallback;
  const from = froms.find((f) => f.value === query.get("from"))?.value ?? "newest";
  return { partition: text("partition"), from, offset: text("offset"), time: text("time"), key: text("key"), value: text("value"), header: text("header"), all: text("transactions") === "all", rate: rates.includes(text("rate")) ? text("rate") : "50" };
}

export function Messages({ topic, partitions, turn }: { topic: string; partitions: number; turn: number }) {
  const asked = useAsked();
  const tail = useTail(topic, partitions, asked, turn);
  const [shown, setShown] = useState<Message | undefined>();
  const columns = useMemo(() => columnsFor(setShown), []);
  const newestFirst = asked.from === "newest" || asked.from === "now";
  const rows = useMemo(() => (newestFirst ? tail.messages.toReversed() : tail.messages), [tail.messages, newestFirst]);
  return (
    <>
      <Where asked={asked} partitions={partitions} />
      <Bar tail={tail} asked={asked} />
      <Said tail={tail} />
      <ProblemView error={tail.error} />
      {tail.loading && rows.length === 0 ? (
        <Loading what="Looking at the newest records" />
      ) : (
        <Table label="records" name="m" columns={columns} rows={rows} rowKey={placeOf} empty={<p class="empty muted">{emptiness(tail, asked, partitions)}</p>} />
      )}
      {shown && <RecordDialog topic={topic} message={shown} onClose={() => setShown(undefined)} />}
    </>
  );
}

function emptiness(tail: Tail, asked: Asked, partitions: number): string {
  const filtered = asked.key !== "" || asked.value !== "" || asked.header !== "";
  if (tail.state === "live") return filtered ? `No record so far that the filter takes, of ${count(tail.looked)}.` : "Waiting for records.";
  if (tail.state === "paused" && asked.from !== "newest") return "Press Start to read.";
  if (asked.partition === "" && partitions > mostPartitions) return `Nothing in the first ${mostPartitions} partitions. Choose another.`;
  return filtered ? `No record that the filter takes, of the ${count(tail.looked)} newest. From the beginning all are looked at.` : `There are no ${asked.all ? "" : "committed "}records. Produce one, or wait for them live.`;
}

// Where is what one looks at. It is applied when it is sent, not by each letter.
function Where({ asked, partitions }: { asked: Asked; partitions: number }) {
  const [edited, setEdited] = useState<Partial<Asked>>({});
  const is = { ...asked, ...edited };
  const set = (key: Exclude<keyof Asked, "all">) => (value: string) => setEdited({ ...edited, [key]: value });
  const apply = (change: Partial<Asked> = {}) => {
    const next = { ...is, ...change };
    setEdited({});
    setQuery({
      partition: next.partition,
      from: next.from === "newest" ? "" : next.from,
      offset: next.from === "offset" ? next.offset : "",
      time: next.from === "time" ? next.time : "",
      key: next.key,
      value: next.value,
      header: next.header,
      transactions: next.all ? "all" : "",
      rate: next.rate === "50" ? "" : next.rate,
    });
  };
  const some = partitions <= 1000;
  return (
    <Form label="Which records" onSubmit={() => apply()}>
      <div class="fields">
        <Select label="Show" value={is.from} onChange={(from) => apply({ from: from as From })} options={froms} />
        {is.from === "offset" && <Field label="Offset" type="number" min={0} value={is.offset} onInput={set("offset")} placeholder="0" />}
        {is.from === "time" && <Field label="Time (of this browser's zone)" type="datetime-local" value={toLocal(is.time)} onInput={(v) => set("time")(fromLocal(v))} />}
        {some ? (
          <Select label="Partition" value={is.partition} onChange={(partition) => apply({ partition })} options={[{ value: "", label: partitions > mostPartitions ? `choose one, of ${count(partitions)}` : "all" }, ...Array.from({ length: partitions }, (_, i) => String(i))]} />
        ) : (
          <Field label="Partition" type="number" min={0} max={partitions - 1} value={is.partition} onInput={set("partition")} placeholder={`0 to ${partitions - 1}`} hint={`Of none the first ${mostPartitions} are looked at.`} />
        )}
        <Field label="Key contains" type="search" value={is.key} onInput={set("key")} mono />
        <Field label="Value contains" type="search" value={is.value} onInput={set("value")} mono />
        <Field label="Header" type="search" value={is.header} onInput={set("header")} mono placeholder="name or name=text" />
        <Select
          label="Of transactions"
          value={is.all ? "all" : ""}
          onChange={(all) => apply({ all: all === "all" })}
          options={[
            { value: "", label: "committed only" },
            { value: "all", label: "all of them, marked" },
          ]}
        />
        <Select label="Records a second" value={is.rate} onChange={(rate) => apply({ rate })} options={rates} />
      </div>
      {Object.keys(edited).length > 0 && (
        <Button type="submit" kind="primary">
          Apply
        </Button>
      )}
    </Form>
  );
}

const states: Record<Tail["state"], { word: string; kind: Kind }> = {
  off: { word: "paused", kind: "muted" },
  paused: { word: "paused", kind: "muted" },
  connecting: { word: "connecting", kind: "info" },
  live: { word: "live", kind: "ok" },
  lost: { word: "connection lost, trying again", kind: "bad" },
};

// Bar says how far the stream is, and starts and stops it.
function Bar({ tail, asked }: { tail: Tail; asked: Asked }) {
  const is = states[tail.state];
  const live = tail.state !== "paused";
  return (
    <div class="table-tools tail-bar">
      <span role="status">
        <Badge kind={is.kind}>{is.word}</Badge>
      </span>
      <span class="muted">
        {count(tail.messages.length)} shown
        {tail.total > tail.messages.length && `, the last of ${count(tail.total)}: ${count(mostKept)} are kept`}
        {tail.looked > tail.total && `, of ${count(tail.looked)} looked at`}
        {live && tail.left > 0 && `, ${count(tail.left)} to go`}
      </span>
      <div class="actions">
        {live ? (
          <Button small onClick={tail.pause}>
            Pause
          </Button>
        ) : (
          <Button small kind="primary" onClick={tail.follow} disabled={tail.gone !== "" || tail.loading}>
            {asked.from === "newest" ? "Follow live" : tail.total > 0 ? "Go on" : "Start"}
          </Button>
        )}
        <Button small onClick={tail.clear} disabled={tail.messages.length === 0}>
          Clear
        </Button>
      </div>
    </div>
  );
}

// Said is what the reader has to know of what is not shown.
function Said({ tail }: { tail: Tail }) {
  const passed = tail.skipped.reduce((sum, s) => sum + Math.abs(s.to - s.from), 0);
  const last = tail.skipped.at(-1);
  return (
    <>
      {tail.gone !== "" && (
        <p class="note bad" role="alert">
          {tail.gone}.
        </p>
      )}
      {last && (
        <p class="note" role="status">
          {count(passed)} offsets were passed over; the last, {exact(last, "from")} to {exact(last, "to")} of partition {last.partition}: {last.why}.
        </p>
      )}
      {[...tail.troubles].slice(0, 5).map(([partition, detail]) => (
        <p key={partition} class="note bad" role="status">
          Partition {partition} shows nothing now: {detail}
        </p>
      ))}
    </>
  );
}

// Transaction says what became of that of a record.
function Transaction({ of: m }: { of: Message }) {
  if (m.transaction === "aborted") return <Badge kind="bad">aborted</Badge>;
  if (m.transaction === "open") return <Badge kind="warn">open transaction</Badge>;
  return <Badge>transaction</Badge>;
}

// placeOf is where a record is: partition:offset.
function placeOf(m: Message): string {
  return `${m.partition}:${exact(m, "offset")}`;
}

function columnsFor(open: (m: Message) => void): Column<Message>[] {
  return [
    {
      key: "at",
      title: "Partition:offset",
      show: (m) => (
        <button type="button" class="link mono" aria-label={`Record ${placeOf(m)}`} onClick={() => open(m)}>
          {placeOf(m)}
        </button>
      ),
    },
    { key: "key", title: "Key", show: (m) => <PartPreview part={keyOf(m)} /> },
    {
      key: "value",
      title: "Value",
      show: (m) => (
        <>
          <PartPreview part={valueOf(m)} />
          {m.cut && (
            <>
              {" "}
              <Badge kind="warn">cut</Badge>
            </>
          )}
          {m.transactional && (
            <>
              {" "}
              <Transaction of={m} />
            </>
          )}
        </>
      ),
    },
    { key: "time", title: "Time", show: (m) => <span class="nowrap"><Time at={m.timestamp} /></span> },
    { key: "headers", title: "Headers", show: (m) => (m.header_count === 0 ? <span class="muted">none</span> : <bdi title={(m.headers ?? []).map((h) => preview({ text: h.key, size: 0 }, 60)).join(", ")}>{count(m.header_count)}</bdi>) },
  ];
}
