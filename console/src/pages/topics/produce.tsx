// A record that is sent by hand.
import { useState } from "preact/hooks";
import { post } from "../../api";
import { exact } from "../../exact";
import { useAction } from "../../hooks";
import type { ETLHeader, RecordToSend, SentRecord } from "../../types";
import { Button, Dialog, Field, Form, ProblemView, Select } from "../../ui";
import { topicURL } from "./paths";

type Kind = "text" | "base64" | "null";

interface Typed {
  form: Kind;
  text: string;
}

const forms = [
  { value: "text", label: "text (UTF-8)" },
  { value: "base64", label: "bytes, in base64" },
  { value: "null", label: "null" },
];

// wrongBase64 says what is wrong with bytes in base64.
function wrongBase64(t: Typed): string | undefined {
  if (t.form !== "base64") return undefined;
  try {
    atob(t.text);
    return undefined;
  } catch {
    return "This is no base64.";
  }
}

function Bytes({ label, value, onInput, rows }: { label: string; value: Typed; onInput: (v: Typed) => void; rows: number }) {
  return (
    <div class="bytes">
      <Select label={`${label} is`} value={value.form} onChange={(form) => onInput({ ...value, form: form as Kind })} options={forms} />
      {value.form !== "null" && <Field label={label} mono rows={rows} value={value.text} onInput={(text) => onInput({ ...value, text })} error={wrongBase64(value)} hint={value.text === "" ? "Empty, which is not null." : undefined} />}
    </div>
  );
}

export function Produce({ topic, partitions, onClose, onSent }: { topic: string; partitions: number; onClose: () => void; onSent: () => void }) {
  const [partition, setPartition] = useState("");
  const [key, setKey] = useState<Typed>({ form: "null", text: "" });
  const [value, setValue] = useState<Typed>({ form: "text", text: "" });
  const [headers, setHeaders] = useState<{ name: string; value: string }[]>([]);
  const [sent, setSent] = useState<SentRecord | undefined>();
  const wrong = wrongBase64(key) ?? wrongBase64(value);
  const number = partition === "" ? undefined : Number(partition);
  const outside = number !== undefined && !(Number.isInteger(number) && number >= 0 && number < partitions);
  const { go, busy, error } = useAction(async () => {
    setSent(undefined);
    const record: RecordToSend = { headers: headers.filter((h) => h.name !== "" || h.value !== "").map((h): ETLHeader => ({ key: h.name, value: h.value })) };
    if (number !== undefined) record.partition = number;
    if (key.form === "text") record.key = key.text;
    if (key.form === "base64") record.key_base64 = key.text;
    if (value.form === "text") record.value = value.text;
    if (value.form === "base64") record.value_base64 = value.text;
    setSent(await post<SentRecord>(`${topicURL(topic)}/records`, record));
    onSent();
  });
  const header = (i: number, change: Partial<{ name: string; value: string }>) => setHeaders(headers.map((h, n) => (n === i ? { ...h, ...change } : h)));
  return (
    <Dialog title={`Produce a record to ${topic}`} onClose={onClose} wide>
      <Form onSubmit={() => !wrong && !outside && go()}>
        <Field label="Partition" type="number" min={0} max={partitions - 1} value={partition} onInput={setPartition} placeholder="by the key" error={outside ? `0 to ${partitions - 1}` : undefined} hint="Empty: as producers choose it, by the key; without key each in turn." />
        <Bytes label="Key" value={key} onInput={setKey} rows={1} />
        <Bytes label="Value" value={value} onInput={setValue} rows={8} />
        {headers.map((h, i) => (
          <div key={i} class="fields">
            <Field label={`Header ${i + 1}: name`} value={h.name} onInput={(name) => header(i, { name })} mono />
            <Field label={`Header ${i + 1}: value`} value={h.value} onInput={(text) => header(i, { value: text })} mono />
          </div>
        ))}
        <div class="actions">
          <Button small onClick={() => setHeaders([...headers, { name: "", value: "" }])} disabled={headers.length >= 100}>
            Add a header
          </Button>
          {headers.length > 0 && (
            <Button small onClick={() => setHeaders(headers.slice(0, -1))}>
              Take the last away
            </Button>
          )}
        </div>
        <p class="hint">It goes through the topic's inline modules, and is acknowledged by all replicas in sync (acks=all). Its time is now.</p>
        <ProblemView error={error} />
        <p role="status">{sent && `It is at offset ${exact(sent, "offset")} of partition ${sent.partition}.`}</p>
        <div class="dialog-foot">
          <Button onClick={onClose}>Close</Button>
          <Button type="submit" kind="primary" busy={busy} disabled={wrong !== undefined || outside}>
            Send
          </Button>
        </div>
      </Form>
    </Dialog>
  );
}
