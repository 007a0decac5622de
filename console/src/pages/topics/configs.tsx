// The configuration of a topic: each value with where it comes from, and how it is changed. A change
// names the state that was seen, and is refused where that is another by now.
import { useEffect, useMemo, useState } from "preact/hooks";
import { asProblem, getTagged, patch, type Problem } from "../../api";
import { duration } from "../../format";
import { useAction, useGet } from "../../hooks";
import type { ConfigPatch, TopicConfig, TopicConfigsOutputBody } from "../../types";
import { Badge, Button, Dialog, Field, Form, Loading, ProblemView, Select, Table, notify, type Column, type Kind } from "../../ui";
import { topicURL } from "./paths";

const sources: Record<TopicConfig["source"], { word: string; kind: Kind }> = {
  topic: { word: "set on the topic", kind: "info" },
  cluster: { word: "default of all brokers", kind: "muted" },
  node: { word: "configuration of the node", kind: "muted" },
  default: { word: "default", kind: "muted" },
};

const changed = 412; // the status of what is another by now

export function Configs({ topic, alter, onChanged }: { topic: string; alter: boolean; onChanged: () => void }) {
  const configs = useGet<TopicConfigsOutputBody>(`${topicURL(topic)}/configs`, { every: 30 });
  const [editing, setEditing] = useState<string | undefined>();
  const columns = useMemo(() => columnsFor(alter ? setEditing : undefined), [alter]);
  return (
    <>
      <ProblemView error={configs.error} retry={configs.reload} />
      {configs.loading && <Loading what="Reading the configuration" />}
      {configs.data && <Table label="configs" name="c" columns={columns} rows={configs.data.configs ?? []} rowKey={(c) => c.key} filter={(c) => `${c.key} ${c.value} ${sources[c.source].word} ${c.doc}`} sorted="key" />}
      {editing !== undefined && (
        <Change
          topic={topic}
          name={editing}
          onClose={() => setEditing(undefined)}
          onChanged={() => {
            configs.reload();
            onChanged();
          }}
        />
      )}
    </>
  );
}

function columnsFor(edit: ((key: string) => void) | undefined): Column<TopicConfig>[] {
  const columns: Column<TopicConfig>[] = [
    {
      key: "key",
      title: "Config",
      sort: (c) => c.key,
      show: (c) => (
        <>
          <code>{c.key}</code>
          <p class="hint">{c.doc}</p>
        </>
      ),
    },
    { key: "value", title: "Value", sort: (c) => c.value, show: (c) => <Value config={c} value={c.value} /> },
    { key: "source", title: "Source", sort: (c) => c.source, show: (c) => <Badge kind={sources[c.source].kind}>{sources[c.source].word}</Badge> },
    { key: "default", title: "Default", show: (c) => <Value config={c} value={c.default} /> },
  ];
  if (edit) {
    columns.push({
      key: "change",
      title: "Change",
      show: (c) =>
        c.fixed ? (
          <span class="muted">fixed</span>
        ) : (
          <Button small label={`Change ${c.key}`} onClick={() => edit(c.key)}>
            Change
          </Button>
        ),
    });
  }
  return columns;
}

// Value is a value as it is set, and times in words too.
function Value({ config, value }: { config: TopicConfig; value: string }) {
  const ms = config.key.endsWith(".ms") && /^\d{4,15}$/.test(value) ? Number(value) : undefined;
  return (
    <>
      <code>{value === "" ? '""' : value}</code>
      {ms !== undefined && <p class="hint">{duration(ms / 1000)}</p>}
    </>
  );
}

// Change is the dialog of one config. It reads the configuration anew, with the tag of its state.
function Change({ topic, name, onClose, onChanged }: { topic: string; name: string; onClose: () => void; onChanged: () => void }) {
  const [seen, setSeen] = useState<{ config: TopicConfig; tag: string } | undefined>();
  const [failed, setFailed] = useState<Problem | undefined>();
  const [value, setValue] = useState("");
  const [checked, setChecked] = useState(false);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let gone = false;
    setFailed(undefined);
    getTagged<TopicConfigsOutputBody>(`${topicURL(topic)}/configs`).then(
      ({ body, tag }) => {
        const config = (body.configs ?? []).find((c) => c.key === name);
        if (gone || !config) return;
        setSeen({ config, tag });
        setValue(config.value);
        setChecked(false);
      },
      (thrown) => gone || setFailed(asProblem(thrown)),
    );
    return () => {
      gone = true;
    };
  }, [topic, name, turn]);
  const send = (p: ConfigPatch) => patch(topicURL(topic), p, { ifMatch: seen?.tag });
  const check = useAction(async () => {
    await send({ set: { [name]: value }, dry_run: true });
    setChecked(true);
  });
  const save = useAction(async () => {
    await send({ set: { [name]: value } });
    notify(`${name} of ${topic} is ${value}.`);
    onChanged();
    onClose();
  });
  const reset = useAction(async () => {
    await send({ delete: [name] });
    notify(`${name} of ${topic} has its default again.`);
    onChanged();
    onClose();
  });
  const error = failed ?? save.error ?? reset.error ?? check.error;
  const config = seen?.config;
  return (
    <Dialog title={`Change ${name}`} onClose={onClose}>
      {!config && !failed && <Loading what="Reading the configuration" />}
      {config && (
        <Form onSubmit={save.go}>
          <p>{config.doc}</p>
          {config.type === "boolean" ? (
            <Select label="Value" value={value} onChange={setValue} options={["true", "false"]} hint={`Default: ${config.default}`} />
          ) : (
            <Field
              label="Value"
              mono
              autoFocus
              value={value}
              onInput={(v) => {
                setChecked(false);
                setValue(v);
              }}
              hint={`${config.type}. Default: ${config.default || "none"}${config.broker_key ? `, from ${config.broker_key} of the brokers` : ""}`}
            />
          )}
          {checked && <p role="status">The server takes this value.</p>}
          <ProblemView error={error} />
          {error?.status === changed && (
            <p>
              Somebody changed the topic after you had read it, and nothing of yours was done.{" "}
              <Button small onClick={() => setTurn(turn + 1)}>
                Read it again
              </Button>
            </p>
          )}
          <div class="dialog-foot">
            <Button onClick={onClose}>Cancel</Button>
            {config.source === "topic" && (
              <Button onClick={reset.go} busy={reset.busy}>
                Back to the default
              </Button>
            )}
            <Button onClick={check.go} busy={check.busy}>
              Check
            </Button>
            <Button type="submit" kind="primary" busy={save.busy} disabled={value === config.value && config.source === "topic"}>
              Save
            </Button>
          </div>
        </Form>
      )}
      {!config && <ProblemView error={failed} retry={() => setTurn(turn + 1)} />}
    </Dialog>
  );
}
