// Quotas: what users, client ids and addresses are held to.
import { useState } from "preact/hooks";
import { patch } from "../../api";
import { bytes } from "../../format";
import { useAction, useMay, usePages } from "../../hooks";
import type { Quotas as EntityQuotas } from "../../types";
import { Button, Confirm, Dialog, Empty, Field, Form, Loading, ProblemView, Section, Select, Table, notify, type Column } from "../../ui";
import { entityWords, parseRate, quotaKeys, shownRate, type QuotaEntity } from "./quota";

const alters = "PATCH /api/v1/quotas";

interface Row {
  entity: QuotaEntity;
  key: string;
  rate: number;
}

// entityOf is whom quotas are for, without their rates.
function entityOf({ rates: _, ...entity }: EntityQuotas): QuotaEntity {
  return entity;
}

export function Quotas() {
  const quotas = usePages<EntityQuotas>("/api/v1/quotas", "quotas");
  const may = useMay([alters]);
  const [setting, setSetting] = useState<Row | "new">();
  const [deleting, setDeleting] = useState<Row>();
  const rows = quotas.rows.flatMap((q) => Object.entries(q.rates).map(([key, rate]): Row => ({ entity: entityOf(q), key, rate })));
  const columns: Column<Row>[] = [
    { key: "for", title: "For", show: (r) => entityWords(r.entity), sort: (r) => entityWords(r.entity) },
    { key: "what", title: "Held to", show: (r) => quotaKeys.find((k) => k.key === r.key)?.label ?? r.key, sort: (r) => r.key },
    { key: "rate", title: "Rate", right: true, show: (r) => shownRate(r.key, r.rate, bytes), sort: (r) => r.rate },
    { key: "key", title: "Key", mono: true, show: (r) => r.key },
  ];
  if (may[alters]) {
    columns.push({
      key: "do",
      title: "Change",
      show: (r) => (
        <span class="row-actions">
          <Button small label={`Change ${r.key} of ${entityWords(r.entity)}`} onClick={() => setSetting(r)}>
            Change
          </Button>
          <Button small kind="danger" label={`Delete ${r.key} of ${entityWords(r.entity)}`} onClick={() => setDeleting(r)}>
            Delete
          </Button>
        </span>
      ),
    });
  }
  return (
    <Section
      title="Quotas"
      actions={
        may[alters] && (
          <Button kind="primary" onClick={() => setSetting("new")}>
            Set a quota
          </Button>
        )
      }
    >
      <p class="hint">The most specific holds: user and client id before user before client id, each by name before the default. Each broker counts for itself.</p>
      <ProblemView error={quotas.error} retry={quotas.reload} />
      {quotas.loading ? (
        <Loading />
      ) : (
        <Table
          label="Quotas"
          name="quota"
          columns={columns}
          rows={rows}
          rowKey={(r) => JSON.stringify([r.entity, r.key])}
          filter={(r) => `${entityWords(r.entity)} ${r.key}`}
          sorted="for"
          empty={<Empty title="Nobody is held to anything." command="rustmq admin quotas set --user alice producer_byte_rate=10MiB" />}
        />
      )}
      {setting && (
        <SetQuota
          was={setting === "new" ? undefined : setting}
          onClose={() => setSetting(undefined)}
          onDone={(said) => {
            setSetting(undefined);
            notify(said);
            quotas.reload();
          }}
        />
      )}
      {deleting && (
        <Confirm
          title="Delete quota"
          action="Delete"
          danger
          onClose={() => setDeleting(undefined)}
          onConfirm={async () => {
            await patch("/api/v1/quotas", { ...deleting.entity, delete: [deleting.key] });
            notify("Quota deleted.");
            quotas.reload();
          }}
        >
          <p>
            {entityWords(deleting.entity)}: <code class="name">{deleting.key}</code>, {shownRate(deleting.key, deleting.rate, bytes)}. A less specific quota holds from then on, if there is one.
          </p>
        </Confirm>
      )}
    </Section>
  );
}

const kinds = [
  { value: "user", label: "A user" },
  { value: "client_id", label: "A client id" },
  { value: "both", label: "A client id of a user" },
  { value: "ip", label: "An address" },
];

const units = { bytes: "bytes a second, such as 10MiB", percent: "per cent of a core", partitions: "partitions a second", connections: "connections a second" };

function SetQuota({ was, onClose, onDone }: { was?: Row; onClose: () => void; onDone: (said: string) => void }) {
  const [kind, setKind] = useState("user");
  const [user, setUser] = useState("");
  const [client, setClient] = useState("");
  const [ip, setIP] = useState("");
  const offered = quotaKeys.filter((k) => (was ? k.key === was.key : k.ofAddress === (kind === "ip")));
  const [key, setKey] = useState(was?.key ?? "producer_byte_rate");
  const one = offered.find((k) => k.key === key) ?? offered[0];
  const [text, setText] = useState(was ? String(was.rate) : "");
  const rate = one && text !== "" ? parseRate(text, one.unit) : null;
  // Nothing written stands for everybody who has no quota by name.
  const entity: QuotaEntity = was?.entity ?? {
    ...(kind === "user" || kind === "both" ? (user === "" ? { default_user: true } : { user }) : {}),
    ...(kind === "client_id" || kind === "both" ? (client === "" ? { default_client_id: true } : { client_id: client }) : {}),
    ...(kind === "ip" ? (ip === "" ? { default_ip: true } : { ip }) : {}),
  };
  const { go, busy, error } = useAction(async () => {
    if (!one || rate === null) return;
    await patch("/api/v1/quotas", { ...entity, set: { [one.key]: rate } });
    onDone(`${one.label}: ${shownRate(one.key, rate, bytes)} for ${entityWords(entity)}.`);
  });
  return (
    <Dialog title={was ? "Change quota" : "Set a quota"} onClose={onClose}>
      <Form onSubmit={() => rate !== null && !busy && go()}>
        {!was && <Select label="For" value={kind} onChange={setKind} options={kinds} />}
        {!was && (kind === "user" || kind === "both") && <Field label="User" value={user} onInput={setUser} maxLength={1024} hint="Left empty: every user that has no quota by name." />}
        {!was && (kind === "client_id" || kind === "both") && <Field label="Client id" value={client} onInput={setClient} maxLength={1024} hint="Left empty: every client id that has no quota by name." />}
        {!was && kind === "ip" && <Field label="Address" value={ip} onInput={setIP} maxLength={64} hint="Left empty: every address that has no quota by name, each for itself." />}
        <Select label="Held to" value={one?.key ?? ""} onChange={setKey} options={offered.map((k) => ({ value: k.key, label: k.label }))} disabled={was !== undefined} />
        <Field label="Rate" value={text} onInput={setText} required autoFocus={was !== undefined} hint={one && units[one.unit]} error={text !== "" && rate === null ? "A number above 0, or bytes with a unit." : undefined} />
        <p>For {entityWords(entity)}.</p>
        <ProblemView error={error} />
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" disabled={rate === null} busy={busy}>
            {was ? "Change" : "Set"}
          </Button>
        </div>
      </Form>
    </Dialog>
  );
}
