// API tokens: what programs call the admin API by. A token is shown when it is made, and never
// again.
import { useState } from "preact/hooks";
import { at, del, post } from "../../api";
import { useAction, useEvery, useMay, usePages } from "../../hooks";
import { session } from "../../session";
import { useStore } from "../../store";
import type { CreatedToken, Token } from "../../types";
import { Badge, Button, Check, Confirm, Dialog, Empty, Field, Form, Loading, ProblemView, Section, Select, Table, Time, notify, type Column } from "../../ui";
import { expiryOf } from "./expiry";
import { Life } from "./life";
import { fullPrincipal } from "./pattern";
import { Secret } from "./secret";

const creates = "POST /api/v1/tokens";
const day = 86_400;
const lifetimes = [
  { value: String(7 * day), label: "7 days" },
  { value: String(30 * day), label: "30 days" },
  { value: String(90 * day), label: "90 days" },
  { value: String(365 * day), label: "One year" },
  { value: "0", label: "Never: until it is revoked" },
];

export function Tokens() {
  const tokens = usePages<Token>("/api/v1/tokens", "tokens");
  // Whose token it is decides who may revoke it: the server is asked of each.
  const revokes = (t: Token) => at`DELETE /api/v1/tokens/${t.name}`;
  const may = useMay([creates, ...tokens.rows.map(revokes)]);
  const now = useEvery(60);
  const [creating, setCreating] = useState(false);
  const [revoking, setRevoking] = useState<Token>();
  const [made, setMade] = useState<{ name: string; secret: string }>();
  const columns: Column<Token>[] = [
    { key: "name", title: "Token", show: (t) => t.name, sort: (t) => t.name },
    { key: "principal", title: "Of", show: (t) => t.principal, sort: (t) => t.principal },
    { key: "may", title: "May", show: (t) => (t.read_only ? <Badge kind="info">only look</Badge> : "what its user may") },
    { key: "created", title: "Created", show: (t) => <Time at={t.created} />, sort: (t) => t.created },
    {
      key: "expires",
      title: "Expires",
      show: (t) => (t.state === "lost" ? <Badge kind="bad">lost: revoke it, and make another</Badge> : <Life expiry={expiryOf(t.created, t.expires ?? null, now)} end={t.expires} />),
      sort: (t) => t.expires ?? "9",
    },
  ];
  if (tokens.rows.some((t) => may[revokes(t)])) {
    columns.push({
      key: "do",
      title: "Revoke",
      show: (t) =>
        may[revokes(t)] && (
          <Button small kind="danger" label={`Revoke token ${t.name}`} onClick={() => setRevoking(t)}>
            Revoke
          </Button>
        ),
    });
  }
  return (
    <Section
      title="API tokens"
      actions={
        may[creates] && (
          <Button kind="primary" onClick={() => setCreating(true)}>
            Create token
          </Button>
        )
      }
    >
      <ProblemView error={tokens.error} retry={tokens.reload} />
      {tokens.loading ? (
        <Loading />
      ) : (
        <Table
          label="API tokens"
          name="token"
          columns={columns}
          rows={tokens.rows}
          rowKey={(t) => t.name}
          filter={(t) => `${t.name} ${t.principal}`}
          sorted="name"
          empty={
            <Empty title="There are no tokens that you may see." command="rustmq admin tokens create exporter --principal monitor --read-only --expires 90d >exporter.token">
              Programs that call the admin API, or scrape metrics, have one.
            </Empty>
          }
        />
      )}
      {creating && (
        <Create
          onClose={() => setCreating(false)}
          onDone={(t) => {
            setCreating(false);
            setMade({ name: t.name, secret: t.token });
            tokens.reload();
          }}
        />
      )}
      {revoking && (
        <Confirm
          title="Revoke token"
          action="Revoke"
          danger
          onClose={() => setRevoking(undefined)}
          onConfirm={async () => {
            await del(at`/api/v1/tokens/${revoking.name}`);
            notify(`Token ${revoking.name} revoked.`);
            tokens.reload();
          }}
        >
          <p>
            Whoever calls with <b>{revoking.name}</b>, as {revoking.principal}, is refused from now on, at every node. It cannot be brought back.
          </p>
        </Confirm>
      )}
      {made && (
        <Secret title={`Token ${made.name}`} value={made.secret} onClose={() => setMade(undefined)}>
          <p class="hint">
            Keep it in a file that only its program may read, and give it as <code>rustmq admin --token-file FILE</code>, or as the header <code>Authorization: Bearer TOKEN</code>.
          </p>
        </Secret>
      )}
    </Section>
  );
}

function Create({ onClose, onDone }: { onClose: () => void; onDone: (made: CreatedToken) => void }) {
  const state = useStore(session);
  const [name, setName] = useState("");
  const [principal, setPrincipal] = useState(state.kind === "in" && state.session.principal.startsWith("User:") ? state.session.principal : "");
  const [readOnly, setReadOnly] = useState(true);
  const [life, setLife] = useState(String(90 * day));
  const bad = name !== "" && !/^[A-Za-z0-9._-]+$/.test(name);
  const ready = name !== "" && !bad && principal !== "";
  const { go, busy, error } = useAction(async () => {
    onDone(await post<CreatedToken>("/api/v1/tokens", { name, principal: fullPrincipal(principal), read_only: readOnly, expires_in_seconds: Number(life) }));
  });
  return (
    <Dialog title="Create token" onClose={onClose}>
      <Form onSubmit={() => ready && !busy && go()}>
        <Field label="Name" value={name} onInput={setName} required autoFocus maxLength={100} hint="What it is for, as in exporter or ci-deploy." error={bad ? "Letters, digits and . _ - only." : undefined} />
        <Field label="For" value={principal} onInput={setPrincipal} required maxLength={1024} hint="User:NAME. The token may do what rules allow this user, who needs no password for it." />
        <Check label="Read-only" checked={readOnly} onChange={setReadOnly} hint="It may look, and change nothing." />
        <Select label="Expires after" value={life} onChange={setLife} options={lifetimes} />
        <ProblemView error={error} />
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" disabled={!ready} busy={busy}>
            Create
          </Button>
        </div>
      </Form>
    </Dialog>
  );
}
