// How a topic is made. What is wrong with it the server says, before it is made too.
import { useState } from "preact/hooks";
import { post } from "../../api";
import { useAction } from "../../hooks";
import { navigate } from "../../router";
import type { NewTopic, Topic } from "../../types";
import { Button, Dialog, Field, Form, ProblemView, Select, notify } from "../../ui";
import { topicPath } from "./paths";

const cleanups = [
  { value: "", label: "delete (the default): old records go" },
  { value: "compact", label: "compact: of each key the last record stays" },
  { value: "compact,delete", label: "compact,delete: both" },
];
const durabilities = [
  { value: "", label: "wal (the default): an ack means on the disks of those in sync" },
  { value: "memory", label: "memory: in their memory; a power cut may lose the last records" },
  { value: "object", label: "object: in the bucket; one replica, acks take longer" },
];

export function CreateTopic({ onClose, onCreated }: { onClose: () => void; onCreated: () => void }) {
  const [name, setName] = useState("");
  const [partitions, setPartitions] = useState("");
  const [replicas, setReplicas] = useState("");
  const [cleanup, setCleanup] = useState("");
  const [durability, setDurability] = useState("");
  const [others, setOthers] = useState("");
  const [checked, setChecked] = useState<Topic | undefined>();
  const wrong = nameError(name);
  const lines = parseConfigs(others);

  const body = (dry_run: boolean): NewTopic => {
    const configs: Record<string, string> = { ...lines.configs };
    if (cleanup) configs["cleanup.policy"] = cleanup;
    if (durability) configs["rustmq.durability"] = durability;
    return { name, partitions: Number(partitions || 0), replication_factor: Number(replicas || 0), configs, dry_run };
  };
  const check = useAction(async () => setChecked(await post<Topic>("/api/v1/topics", body(true))));
  const create = useAction(async () => {
    await post<Topic>("/api/v1/topics", body(false));
    notify(`Topic ${name} is made.`);
    onCreated();
    onClose();
    navigate(topicPath(name));
  });
  const ready = name !== "" && wrong === "" && lines.wrong === "";
  const edit = (set: (v: string) => void) => (v: string) => {
    setChecked(undefined);
    set(v);
  };
  return (
    <Dialog title="Create a topic" onClose={onClose}>
      <Form onSubmit={() => ready && create.go()}>
        <Field label="Name" required autoFocus mono maxLength={249} value={name} onInput={edit(setName)} error={wrong} hint="Letters, digits, dots, - and _." />
        <div class="fields">
          <Field label="Partitions" type="number" min={1} max={10000} value={partitions} onInput={edit(setPartitions)} placeholder="1" hint="Empty: the brokers' default." />
          <Field label="Replicas" type="number" min={1} max={32767} value={replicas} onInput={edit(setReplicas)} placeholder="automatic" hint="Empty: three, or as many as there are brokers." />
        </div>
        <Select label="Clean-up" value={cleanup} onChange={edit(setCleanup)} options={cleanups} />
        <Select label="Durability (it stays as it is made)" value={durability} onChange={edit(setDurability)} options={durabilities} />
        <Field label="Other configs" rows={3} mono value={others} onInput={edit(setOthers)} error={lines.wrong} placeholder={"retention.ms=86400000"} hint="One key=value a line." />
        <ProblemView error={create.error ?? check.error} />
        {checked && (
          <p role="status">
            The server would make it with {checked.partitions} {checked.partitions === 1 ? "partition" : "partitions"} of {checked.replication_factor} {checked.replication_factor === 1 ? "replica" : "replicas"}.
          </p>
        )}
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          <Button onClick={check.go} busy={check.busy} disabled={!ready}>
            Check
          </Button>
          <Button type="submit" kind="primary" busy={create.busy} disabled={!ready}>
            Create
          </Button>
        </div>
      </Form>
    </Dialog>
  );
}

// nameError says why a topic cannot have a name, by Kafka's rules; "" where it can, or is empty.
export function nameError(name: string): string {
  if (name === "") return "";
  if (name === "." || name === "..") return "A topic cannot be called . or ..";
  if (name.length > 249) return `${name.length} characters: at most 249.`;
  return /^[a-zA-Z0-9._-]+$/.test(name) ? "" : "Only letters, digits, dots, - and _.";
}

// parseConfigs reads lines of key=value.
export function parseConfigs(text: string): { configs: Record<string, string>; wrong: string } {
  const configs: Record<string, string> = {};
  for (const line of text.split("\n").map((l) => l.trim())) {
    if (line === "") continue;
    const cut = line.indexOf("=");
    if (cut < 1) return { configs, wrong: `"${line}" is not key=value.` };
    configs[line.slice(0, cut).trim()] = line.slice(cut + 1).trim();
  }
  return { configs, wrong: "" };
}
