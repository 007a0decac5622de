// The form that sets a key on running nodes: first tried by the server, which says what is wrong with
// it, then set.
import { useState } from "preact/hooks";
import { getTagged, patch } from "../../api";
import { useAction, useGet } from "../../hooks";
import type { ClusterSetting, ConfigView, Setting } from "../../types";
import { Badge, Button, Dialog, Field, Form, ProblemView, Select } from "../../ui";

interface Brokers {
  brokers: { id: number }[] | null;
}

export interface ChangeValueProps {
  was?: ClusterSetting;
  settings: Setting[];
  onClose: () => void;
  onDone: (said: string) => void;
}

export function ChangeValue({ was, settings, onClose, onDone }: ChangeValueProps) {
  const brokers = useGet<Brokers>(was ? null : "/api/v1/brokers");
  const [key, setKey] = useState(was?.key ?? "");
  const [on, setOn] = useState(was && was.broker >= 0 ? String(was.broker) : "");
  const [value, setValue] = useState(was?.value ?? "");
  const [tried, setTried] = useState<{ of: string; tag: string }>();
  const live = settings.filter((s) => s.live);
  const is = settings.find((s) => s.key === key);
  const waits = is !== undefined && !is.live;
  const forAll = is?.live === "cluster";
  const broker = was ? was.broker : forAll || on === "" ? -1 : Number(on);
  const body = { ...(broker < 0 ? {} : { broker }), set: { [key]: value } };
  const asked = JSON.stringify(body);
  const good = tried?.of === asked;
  const where = broker < 0 ? "all nodes" : `broker ${broker}`;
  const attempt = useAction(async () => {
    const { tag } = await getTagged<ConfigView>("/api/v1/config"); // before: what comes between is noticed
    await patch("/api/v1/config", { ...body, dry_run: true });
    setTried({ of: asked, tag });
  });
  const set = useAction(async () => {
    if (!tried) return;
    await patch("/api/v1/config", body, { ifMatch: tried.tag });
    onDone(`${key} is set on ${where}.`);
  });
  const ready = key !== "" && value !== "" && !waits;
  return (
    <Dialog title={was ? `Change ${was.key}` : "Set a key on running nodes"} onClose={onClose}>
      <Form onSubmit={() => (good ? set.go() : ready && attempt.go())}>
        {!was && (
          <Field
            label="Key"
            value={key}
            onInput={setKey}
            required
            autoFocus
            mono
            maxLength={200}
            list={live.map((s) => s.key)}
            error={waits ? "It waits for a restart: it is set in each node's own file." : undefined}
            hint={`One of ${live.length} that may change while nodes run, or a default of topics such as log.retention.ms.`}
          />
        )}
        {!was && !forAll && <Select label="On" value={on} onChange={setOn} options={[{ value: "", label: "All nodes" }, ...(brokers.data?.brokers ?? []).map((b) => ({ value: String(b.id), label: `Broker ${b.id} alone` }))]} />}
        {!was && forAll && <p class="hint">This key is for the whole cluster.</p>}
        <Field label="Value" value={value} onInput={setValue} required mono autoFocus={was !== undefined} maxLength={4096} />
        {is && (
          <div class="diff">
            <div>
              <span class="muted">here now</span>
              <span>
                <code>{is.value || "(empty)"}</code> from {is.source}
              </span>
            </div>
            <div>
              <span class="muted">default</span>
              <code>{is.default || "(empty)"}</code>
            </div>
          </div>
        )}
        <ProblemView error={good ? set.error : attempt.error} />
        {good && (
          <p role="status">
            <Badge kind="ok">it can be set</Badge> {where === "all nodes" ? "All nodes obey it within a second, without a restart." : `Broker ${broker} obeys it within a second, without a restart.`}
          </p>
        )}
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          {good ? (
            <Button type="submit" kind="primary" busy={set.busy}>
              Set on {where}
            </Button>
          ) : (
            <Button type="submit" kind="primary" disabled={!ready} busy={attempt.busy}>
              Try it first
            </Button>
          )}
        </div>
      </Form>
    </Dialog>
  );
}
