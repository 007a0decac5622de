// The controllers: who leads, how far each has the metadata log, who has a vote.
import { useState } from "preact/hooks";
import { at, del, post } from "../../api";
import { count } from "../../format";
import { useAction, useGet, useMay } from "../../hooks";
import type { Controller, ControllerGroup, Snapshot } from "../../types";
import { Badge, Button, Command, Confirm, Empty, KeyValue, Loading, Page, ProblemView, Section, Table, notify, type Column } from "../../ui";

const path = "/api/v1/controllers";
const calls = { add: `POST ${path}`, remove: `DELETE ${path}/1`, snapshot: "POST /api/v1/snapshots" };

export default function ControllersPage() {
  const { data: group, error, loading, reload } = useGet<ControllerGroup>(path, { every: 2 });
  const may = useMay(Object.values(calls));
  const [asks, setAsks] = useState<{ add?: Controller; remove?: Controller }>({});
  const snapshot = useAction(async () => {
    const { index } = await post<Snapshot>("/api/v1/snapshots");
    notify(`There is a snapshot up to entry ${count(index)}.`);
    reload();
  });
  const all = group?.controllers ?? [];
  const votes = all.filter((c) => c.role === "voter");
  const active = votes.filter((c) => c.active || c.leads).length;
  const needed = Math.floor(votes.length / 2) + 1;
  const columns: Column<Controller>[] = [
    { key: "id", title: "Controller", show: (c) => `controller ${c.id}`, sort: (c) => c.id },
    { key: "role", title: "Role", show: (c) => <Role of={c} />, sort: (c) => c.role },
    { key: "active", title: "Heard of", show: (c) => (c.active || c.leads ? <Badge kind="ok">yes</Badge> : <Badge kind={c.role === "waiting" ? "muted" : "bad"}>no</Badge>), sort: (c) => (c.active ? 0 : 1) },
    {
      key: "lag",
      title: "Behind by",
      show: (c) => <span title={`It has the log up to ${count(c.match)}`}>{c.lag > 10_000 ? <Badge kind="warn">{count(c.lag)}</Badge> : count(c.lag)}</span>,
      sort: (c) => c.lag,
      right: true,
    },
    { key: "raft", title: "For controllers", show: (c) => <span class="whole">{c.raft || "–"}</span>, mono: true },
    { key: "address", title: "For brokers", show: (c) => <span class="whole">{c.controller || "–"}</span>, mono: true },
    { key: "directory", title: "Data directory", show: (c) => <span title={c.directory}>{c.directory.slice(0, 8)}…</span>, mono: true },
    {
      key: "do",
      title: "Change",
      show: (c) =>
        c.role === "waiting"
          ? may[calls.add] && <Button small onClick={() => setAsks({ add: c })}>Add…</Button>
          : may[calls.remove] && <Button small onClick={() => setAsks({ remove: c })}>Remove…</Button>,
    },
  ];
  return (
    <Page
      title="Controllers"
      sub="They decide, and keep the metadata: a majority of them has every change."
      actions={
        may[calls.snapshot] && (
          <Button busy={snapshot.busy} onClick={snapshot.go}>
            Take a snapshot
          </Button>
        )
      }
    >
      <ProblemView error={error} retry={reload} />
      <ProblemView error={snapshot.error} />
      {loading && <Loading />}
      {group && (
        <>
          <div class="cards">
            <Section title="Votes">
              <p class="figure">
                {active} of {votes.length}
              </p>
              <p class="muted">are heard of; {needed} have to be, or nothing changes.</p>
              {active - needed <= 0 && votes.length > 1 && <Badge kind="warn">none may fail meanwhile</Badge>}
            </Section>
            <Section title="Metadata log">
              <KeyValue
                items={[
                  ["Leader", group.leader ? `controller ${group.leader}` : <Badge kind="bad">none</Badge>],
                  ["Term", <span title="It grows with every election">{count(group.term)}</span>],
                  ["Committed up to", count(group.committed)],
                  ["Snapshot up to", `${count(group.snapshot)}, ${count(group.committed - group.snapshot)} entries ago`],
                ]}
              />
            </Section>
          </div>
          <Table label="controllers" columns={columns} rows={all} rowKey={(c) => String(c.id)} sorted="id" empty={<Empty title="No controller is known." />} />
          <Section title="Another controller">
            <p>Start it with the controllers of the cluster as its peers. It waits then, and is shown here with a button that gives it the metadata log and, once it has caught up, a vote.</p>
            <Command text="rustmq serve --roles controller --node-id ID --bind HOST --peers 1@HOST1,2@HOST2,3@HOST3 --bucket URL --data-dir DIR" />
          </Section>
        </>
      )}
      {asks.add && <Add controller={asks.add} onClose={() => setAsks({})} onDone={reload} />}
      {asks.remove && <Remove controller={asks.remove} votes={votes} onClose={() => setAsks({})} onDone={reload} />}
    </Page>
  );
}

function Role({ of: c }: { of: Controller }) {
  if (c.leads) return <Badge kind="info">leads</Badge>;
  return <Badge kind={c.role === "voter" ? "muted" : "warn"}>{c.role}</Badge>;
}

function Add({ controller: c, onClose, onDone }: { controller: Controller; onClose: () => void; onDone: () => void }) {
  const add = async () => {
    await post<ControllerGroup>(path, { id: c.id });
    notify(`Controller ${c.id} has a vote. Name it in the peers of every node from its next start on.`);
    onDone();
  };
  return (
    <Confirm title={`Add controller ${c.id}`} action="Add" onConfirm={add} onClose={onClose}>
      <p>
        It is sent the metadata log, and has a vote once it has caught up: that may take up to 50 seconds. It is reached at <code>{c.raft || "an address that is not known"}</code>, and its data directory is <code>{c.directory}</code>.
      </p>
      <p>Name it in the peers of every node from its next start on.</p>
    </Confirm>
  );
}

function Remove({ controller: c, votes, onClose, onDone }: { controller: Controller; votes: Controller[]; onClose: () => void; onDone: () => void }) {
  const left = votes.filter((v) => v.id !== c.id);
  const active = left.filter((v) => v.active || v.leads).length;
  const remove = async () => {
    await del(at`/api/v1/controllers/${c.id}`);
    notify(`Controller ${c.id} is no member any more. Take it out of the peers of every node before its next start.`);
    onDone();
  };
  return (
    <Confirm title={`Remove controller ${c.id}`} action="Remove" danger typed={String(c.id)} onConfirm={remove} onClose={onClose}>
      <p>
        It is taken out of the group, and can be stopped. {left.length === 1 ? "One vote is" : `${left.length} votes are`} left, {active} of them heard of.
      </p>
      {active < Math.floor(left.length / 2) + 1 && <p><Badge kind="bad">no majority</Badge> Of those that are left, too few are heard of: nothing would change any more.</p>}
      {left.length % 2 === 0 && left.length > 0 && <p class="muted">An even number of votes bears no more failures than one fewer.</p>}
      <p>Take it out of the peers of every node before its next start.</p>
    </Confirm>
  );
}
