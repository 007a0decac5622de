// A reset of a group's offsets: what is asked for, what it would do, and then that it is done. What
// is done is what was seen: another question takes the preview away.
import { useState } from "preact/hooks";
import { post } from "../../api";
import { exact, grouped, integer, whole } from "../../exact";
import { count } from "../../format";
import { useAction } from "../../hooks";
import type { GroupDescription, OffsetMove, OffsetPlan, OffsetReset } from "../../types";
import { Badge, Button, Dialog, Field, Form, ProblemView, Select, Table, notify, type Column } from "../../ui";
import { groupURL } from "../topics/paths";
import { visible } from "../../text";

type To = OffsetReset["to"];

const tos: { value: To; label: string }[] = [
  { value: "earliest", label: "the earliest record that there is" },
  { value: "latest", label: "the end: what comes from now on" },
  { value: "time", label: "the first record from a time on" },
  { value: "offset", label: "an offset" },
  { value: "shift", label: "so many records forward, or back" },
];

const all = "";

export function Reset({ group, onClose, onDone }: { group: GroupDescription; onClose: () => void; onDone: () => void }) {
  const topics = [...new Set((group.partition_list ?? []).map((p) => p.topic))];
  const [topic, setTopic] = useState(all);
  const [other, setOther] = useState("");
  const [partitions, setPartitions] = useState("");
  const [to, setTo] = useState<To>("earliest");
  const [value, setValue] = useState("");
  const [plan, setPlan] = useState<{ of: string; is: OffsetPlan } | undefined>();

  const request = (execute: boolean): OffsetReset => {
    const named = topic === "other" ? other : topic.slice(1);
    const q: OffsetReset = { to, execute };
    if (topic === all) q.all_topics = true;
    else q.topics = [{ topic: named, partitions: numbers(partitions) ?? [] }];
    if (to === "offset" || to === "shift") q.value = integer(value);
    if (to === "time") q.value = new Date(value).getTime();
    return q;
  };
  const wrong = wrongOf(to, value) ?? (topic !== all && numbers(partitions) === undefined ? "Partitions: want numbers, as 0,3." : undefined) ?? (topic === "other" && other === "" ? "Which topic?" : undefined);
  const key = wrong ? "" : JSON.stringify(request(false));
  const seen = plan && plan.of === key ? plan.is : undefined;
  const look = useAction(async () => setPlan({ of: key, is: await post<OffsetPlan>(`${groupURL(group.group)}/reset-offsets`, request(false)) }));
  const apply = useAction(async () => {
    const done = await post<OffsetPlan>(`${groupURL(group.group)}/reset-offsets`, request(true));
    notify(`Offsets of ${visible(group.group)} are set in ${count((done.partitions ?? []).filter(moves).length)} partitions.`);
    onDone();
    onClose();
  });
  const moved = (seen?.partitions ?? []).filter(moves);
  return (
    <Dialog title={`Reset offsets of ${visible(group.group)}`} onClose={onClose} wide>
      <Form onSubmit={() => !wrong && look.go()}>
        {group.members > 0 && (
          <p class="note">
            The group has {count(group.members)} {group.members === 1 ? "member" : "members"}, whose next commit would undo a reset: it is refused until its consumers are stopped. What it would do can be seen all the same.
          </p>
        )}
        <div class="fields">
          <Select
            label="Of"
            value={topic}
            onChange={setTopic}
            options={[{ value: all, label: "all that it has committed" }, ...topics.map((t) => ({ value: `=${t}`, label: `topic ${t}` })), { value: "other", label: "another topic…" }]}
          />
          {topic === "other" && <Field label="Topic" value={other} onInput={setOther} mono />}
          {topic !== all && <Field label="Partitions" value={partitions} onInput={setPartitions} placeholder="all" hint="As 0,3." error={numbers(partitions) === undefined ? "Numbers, with commas between them." : undefined} />}
          <Select label="To" value={to} onChange={(v) => setTo(v as To)} options={tos} />
          {to === "offset" && <Field label="Offset" type="number" min={0} value={value} onInput={setValue} />}
          {to === "shift" && <Field label="Records" type="number" value={value} onInput={setValue} hint="Less than 0: back, so that they are consumed again." />}
          {to === "time" && <Field label="Time (of this browser's zone)" type="datetime-local" value={value} onInput={setValue} />}
        </div>
        <ProblemView error={apply.error ?? look.error} />
        {seen && (
          <>
            <p role="status">
              {count(moved.length)} of {count((seen.partitions ?? []).length)} offsets would change. {consequence(moved)}
            </p>
            <Table label="what would change" name="r" columns={columns} rows={seen.partitions ?? []} rowKey={(m) => `${m.topic}/${m.partition}`} empty={<p class="empty muted">There is nothing to set.</p>} />
          </>
        )}
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind={seen ? "plain" : "primary"} busy={look.busy} disabled={wrong !== undefined}>
            Preview
          </Button>
          {seen && (
            <Button kind="danger" busy={apply.busy} disabled={moved.length === 0} onClick={apply.go}>
              Set {count(moved.length)} {moved.length === 1 ? "offset" : "offsets"}
            </Button>
          )}
        </div>
      </Form>
    </Dialog>
  );
}

function moves(m: OffsetMove): boolean {
  return m.to !== undefined && exact(m, "to") !== exact(m, "from");
}

// moveOf is by how many offsets one moves: less than 0 is back; 0 also where one of the two is none.
function moveOf(m: OffsetMove): bigint {
  return m.from === undefined || m.to === undefined ? 0n : whole(m, "to") - whole(m, "from");
}

// signed is a move as a person reads it: "+1,200".
function signed(by: bigint): string {
  return by === 0n ? "" : `${by > 0n ? "+" : "−"}${(by > 0n ? by : -by).toLocaleString("en-US")}`;
}

// consequence is what the moves mean for who consumes.
function consequence(moved: OffsetMove[]): string {
  let again = 0;
  let passed = 0;
  for (const m of moved) {
    const by = Number(moveOf(m));
    if (by < 0) again -= by;
    else passed += by;
  }
  const said = [];
  if (again > 0) said.push(`up to ${count(again)} records are consumed again`);
  if (passed > 0) said.push(`up to ${count(passed)} are never consumed by this group`);
  return said.length === 0 ? "" : `Then ${said.join(", and ")}.`;
}

function wrongOf(to: To, value: string): string | undefined {
  if (to === "offset") return /^\d+$/.test(value) ? undefined : "Which offset?";
  if (to === "shift") return /^-?\d+$/.test(value) ? undefined : "By how many?";
  if (to === "time") return Number.isNaN(new Date(value).getTime()) ? "Which time?" : undefined;
  return undefined;
}

// numbers reads partitions; undefined: it is no list of them.
function numbers(text: string): number[] | undefined {
  if (text.trim() === "") return [];
  const parts = text.split(",").map((p) => p.trim());
  return parts.every((p) => /^\d{1,9}$/.test(p)) ? parts.map(Number) : undefined;
}

const columns: Column<OffsetMove>[] = [
  { key: "partition", title: "Partition", sort: (m) => `${m.topic} ${String(m.partition).padStart(6, "0")}`, show: (m) => `${m.topic}-${m.partition}` },
  { key: "from", title: "From", right: true, sort: (m) => m.from ?? -1, show: (m) => (m.from === undefined ? <span class="muted">nothing</span> : grouped(m, "from")) },
  { key: "to", title: "To", right: true, sort: (m) => m.to ?? -1, show: (m) => (moves(m) ? <b>→ {grouped(m, "to")}</b> : <span class="muted">stays</span>) },
  { key: "by", title: "By", right: true, show: (m) => signed(moveOf(m)) },
  { key: "start", title: "Log start", right: true, sort: (m) => m.log_start, show: (m) => grouped(m, "log_start") },
  { key: "end", title: "End", right: true, sort: (m) => m.end, show: (m) => grouped(m, "end") },
  { key: "note", title: "Note", show: (m) => m.note && <Badge kind="warn">{m.note}</Badge> },
];
