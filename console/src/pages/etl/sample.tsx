// Where the records come from that a module is tried with: a topic, or what one writes.
import { useState } from "preact/hooks";
import { Problem, at, get } from "../../api";
import { bytes, count, fromLocal, toLocal } from "../../format";
import { useAction, useGet } from "../../hooks";
import { useQuery } from "../../router";
import type { ETLRecord, Message, PeekedMessages, TopicsOutputBody } from "../../types";
import { Button, Field, Form, ProblemView, Select } from "../../ui";

// A body of the API has a MiB, and the spec is in it too.
const mostBytes = 900_000;

export interface Sample {
  topic: string; // "" if the records are of none
  records: ETLRecord[];
  from: string; // where they are from, in words
  left: string; // what was left out, in words; "" if nothing
}

// recordOf is a message as a sample has it.
function recordOf(m: Message): ETLRecord {
  return { timestamp: m.timestamp, key: m.key, key_base64: m.key_base64, value: m.value, value_base64: m.value_base64, headers: m.headers };
}

// fitting are the first records that a body has room for.
function fitting(records: ETLRecord[]): ETLRecord[] {
  const kept: ETLRecord[] = [];
  let size = 0;
  for (const r of records) {
    size += new TextEncoder().encode(JSON.stringify(r)).length + 1;
    if (size > mostBytes) break;
    kept.push(r);
  }
  return kept;
}

export function SampleOf({ topics, onSample }: { topics: string[]; onSample: (s: Sample | undefined) => void }) {
  const [source, setSource] = useQuery("source", "topic");
  return (
    <>
      <Select
        label="Records"
        value={source}
        onChange={(s) => {
          setSource(s);
          onSample(undefined);
        }}
        options={[
          { value: "topic", label: "of a topic" },
          { value: "written", label: "that I write" },
        ]}
      />
      {source === "topic" ? <OfTopic topics={topics} onSample={onSample} /> : <Written topics={topics} onSample={onSample} />}
    </>
  );
}

function OfTopic({ topics, onSample }: { topics: string[]; onSample: (s: Sample | undefined) => void }) {
  const [topic, setTopic] = useQuery("of", topics[0] ?? "");
  const [partition, setPartition] = useQuery("partition", "0");
  const [from, setFrom] = useQuery("from", "end");
  const [offset, setOffset] = useQuery("offset", "0");
  const [since, setSince] = useQuery("since");
  const [limit, setLimit] = useQuery("limit", "20");
  const all = useGet<TopicsOutputBody>("/api/v1/topics", { query: { limit: 200 } });
  const read = useAction(async () => {
    if (topic.trim() === "") throw new Problem(0, "Which topic?", "Write the name of the topic whose records the module is to be tried with.");
    const begin = from === "offset" ? { offset } : from === "time" ? { time: since || new Date().toISOString() } : { from };
    const peeked = await get<PeekedMessages>(at`/api/v1/topics/${topic.trim()}/records`, { partition, limit, max_bytes: 1 << 20, ...begin });
    const messages = peeked.records ?? [];
    const whole = messages.filter((m) => !m.cut);
    const kept = fitting(whole.map(recordOf));
    const left: string[] = [];
    if (messages.length > whole.length) left.push(`${messages.length - whole.length} that are too large to be shown whole`);
    if (whole.length > kept.length) left.push(`${whole.length - kept.length} for which there is no room`);
    onSample({
      topic: topic.trim(),
      records: kept,
      from: messages.length > 0 ? `${topic.trim()}-${partition}, offsets ${count(messages[0]?.offset)} to ${count(messages.at(-1)?.offset)}` : `${topic.trim()}-${partition}: no records there (it has offsets ${count(peeked.log_start)} to ${count(peeked.high_watermark)})`,
      left: left.join(", and "),
    });
  });
  return (
    <Form onSubmit={read.go} label="Records of a topic">
      <div class="fields">
        <Field label="Topic" value={topic} onInput={setTopic} list={[...new Set([...topics, ...(all.data?.topics ?? []).map((t) => t.name)])]} required />
        <Field label="Partition" type="number" min={0} value={partition} onInput={setPartition} />
        <Select
          label="Begin"
          value={from}
          onChange={setFrom}
          options={[
            { value: "end", label: "at the last ones" },
            { value: "start", label: "at the first ones" },
            { value: "offset", label: "at an offset" },
            { value: "time", label: "at a time" },
          ]}
        />
        {from === "offset" && <Field label="Offset" type="number" min={0} value={offset} onInput={setOffset} />}
        {from === "time" && <Field label="Time, of this browser" type="datetime-local" value={toLocal(since)} onInput={(v) => setSince(fromLocal(v))} />}
        <Field label="Records at most" type="number" min={1} max={1000} value={limit} onInput={setLimit} />
      </div>
      <Button type="submit" busy={read.busy}>
        Get the records
      </Button>
      <ProblemView error={read.error} />
    </Form>
  );
}

function Written({ topics, onSample }: { topics: string[]; onSample: (s: Sample | undefined) => void }) {
  const [topic, setTopic] = useState(topics[0] ?? "");
  const [format, setFormat] = useState("value");
  const [text, setText] = useState("");
  const take = useAction(async () => {
    const records = text.split("\n").filter((l) => l.trim() !== "").map((line, i) => recordIn(line, format, i + 1));
    const kept = fitting(records);
    onSample({ topic, records: kept, from: `${count(records.length)} records of yours`, left: records.length > kept.length ? `${records.length - kept.length} beyond ${bytes(mostBytes)}` : "" });
  });
  return (
    <Form onSubmit={take.go} label="Records that you write">
      <div class="fields">
        <Field label="As if of topic" value={topic} onInput={setTopic} list={topics} hint="Left out: one that the spec names." />
        <Select
          label="Each line is"
          value={format}
          onChange={setFormat}
          options={[
            { value: "value", label: "a value" },
            { value: "json", label: 'a record as JSON: {"key": …, "value": …, "headers": […]}' },
          ]}
        />
      </div>
      <Field label="Records, one a line" rows={6} mono value={text} onInput={setText} />
      <Button type="submit" busy={take.busy}>
        Take these
      </Button>
      <ProblemView error={take.error} />
    </Form>
  );
}

function recordIn(line: string, format: string, number: number): ETLRecord {
  if (format === "value") return { value: line };
  try {
    const record: unknown = JSON.parse(line);
    if (typeof record === "object" && record !== null && !Array.isArray(record)) return record as ETLRecord;
  } catch {
    // said below
  }
  throw new Problem(0, `Line ${number} is no record`, 'A record is a JSON object such as {"key": "a", "value": "b", "headers": [{"key": "h", "value": "x"}]}.');
}
