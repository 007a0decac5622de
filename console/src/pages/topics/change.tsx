// What is done with a whole topic: more partitions, records deleted, the topic deleted.
import { useState } from "preact/hooks";
import { Problem, del, post } from "../../api";
import { exact, integer, whole } from "../../exact";
import { count } from "../../format";
import { useAction } from "../../hooks";
import { navigate } from "../../router";
import type { DeletedRecords, Topic } from "../../types";
import { Button, Confirm, Dialog, Field, Form, ProblemView, Select, notify } from "../../ui";
import { topicURL } from "./paths";

interface ChangeProps {
  topic: Topic;
  onClose: () => void;
  onDone: () => void;
}

export function AddPartitions({ topic, onClose, onDone }: ChangeProps) {
  const [total, setTotal] = useState(String(topic.partitions + 1));
  const more = Number(total) - topic.partitions;
  const { go, busy, error } = useAction(async () => {
    await post(`${topicURL(topic.name)}/partitions`, { total: Number(total) });
    notify(`Topic ${topic.name} has ${total} partitions.`);
    onDone();
    onClose();
  });
  return (
    <Dialog title="Add partitions" onClose={onClose}>
      <Form onSubmit={() => more > 0 && go()}>
        <p>
          A topic cannot have fewer partitions again. Records with a key that come from now on may go to another partition than those before them with the same key: what is in order by key within a partition is not, across this change.
        </p>
        <Field label="Partitions afterwards" type="number" min={topic.partitions + 1} value={total} onInput={setTotal} autoFocus hint={`${count(topic.partitions)} now.`} error={more > 0 ? undefined : `More than ${topic.partitions}.`} />
        <ProblemView error={error} />
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={busy} disabled={!(more > 0)}>
            Add {more > 0 ? count(more) : ""}
          </Button>
        </div>
      </Form>
    </Dialog>
  );
}

export function DeleteRecords({ topic, onClose, onDone }: ChangeProps) {
  const [which, setWhich] = useState("all");
  const [before, setBefore] = useState("");
  const list = topic.partition_list ?? [];
  const of = list.filter((p) => which === "all" || String(p.partition) === which);
  const one = of.length === 1 ? of[0] : undefined;
  const typed = which !== "all" && /^\d+$/.test(before) ? BigInt(before) : undefined;
  const wrong =
    one && which !== "all" && before !== "" && !(typed !== undefined && typed >= whole(one, "log_start") && typed <= whole(one, "high_watermark"))
      ? `There are offsets ${exact(one, "log_start")} to ${exact(one, "high_watermark")}.`
      : undefined;
  const going = of.reduce((sum, p) => {
    const [from, end] = [whole(p, "log_start"), whole(p, "high_watermark")];
    const to = typed !== undefined && typed < end ? typed : end;
    return to > from ? sum + Number(to - from) : sum;
  }, 0);
  const confirm = async () => {
    const done = await post<DeletedRecords>(`${topicURL(topic.name)}/delete-records`, { partitions: of.map((p) => ({ partition: p.partition, before: typed === undefined ? -1 : integer(before) })) });
    const failed = (done.partitions ?? []).filter((p) => p.error);
    onDone();
    if (failed.length > 0) throw new Problem(0, `Of ${failed.length} partitions nothing is known to be deleted`, failed.slice(0, 5).map((p) => `${p.partition}: ${p.error}`).join("; "));
    notify(`Records of ${topic.name} are deleted.`);
  };
  return (
    <Confirm title="Delete records" action={`Delete ${count(going)} offsets`} typed={topic.name} wrong={wrong !== undefined} onClose={onClose} onConfirm={confirm}>
      <p>The log start moves up, for good: records before it are gone for every consumer, also from the bucket. Topics that are only compacted refuse it.</p>
      <Select label="Partition" value={which} onChange={setWhich} options={[{ value: "all", label: "all, with all their records" }, ...list.map((p) => ({ value: String(p.partition), label: `${p.partition}: offsets ${exact(p, "log_start")} to ${exact(p, "high_watermark")}` }))]} />
      {which !== "all" && <Field label="Before offset" value={before} onInput={setBefore} error={wrong} hint="Empty: all records that there are." />}
      <p>
        So {count(going)} offsets of {count(of.length)} {of.length === 1 ? "partition" : "partitions"} go.
      </p>
    </Confirm>
  );
}

export function DeleteTopic({ topic, onClose }: { topic: Topic; onClose: () => void }) {
  return (
    <Confirm
      title="Delete the topic"
      action="Delete the topic"
      typed={topic.name}
      onClose={onClose}
      onConfirm={async () => {
        await del(topicURL(topic.name));
        notify(`Topic ${topic.name} is deleted.`);
        navigate("/topics");
      }}
    >
      <p>
        {count(topic.partitions)} {topic.partitions === 1 ? "partition" : "partitions"} with {count(topic.records)} records go, also from the bucket, and nothing brings them back.
      </p>
    </Confirm>
  );
}
