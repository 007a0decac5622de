// Users: who has a password, for Kafka's SCRAM and for this console. The password of a new user is
// made here or typed, and is never shown again.
import { useState } from "preact/hooks";
import { at, del, post, put, withQuery } from "../../api";
import { useAction, useMay, usePages } from "../../hooks";
import { Link } from "../../router";
import type { User } from "../../types";
import { Badge, Button, Confirm, Dialog, Empty, Field, Form, Loading, ProblemView, Section, Select, Table, notify, type Column } from "../../ui";
import { makePassword } from "./password";
import { fullPrincipal } from "./pattern";
import { Secret } from "./secret";

const creates = "POST /api/v1/users";
const changes = "PUT /api/v1/users/any/password";
const deletes = "DELETE /api/v1/users/any";

export function Users() {
  const users = usePages<User>("/api/v1/users", "users");
  const may = useMay([creates, changes, deletes]);
  const [creating, setCreating] = useState(false);
  const [changing, setChanging] = useState<string>();
  const [deleting, setDeleting] = useState<string>();
  const [secret, setSecret] = useState<{ user: string; password: string }>();
  const done = (user: string, made: string | undefined, said: string) => {
    setCreating(false);
    setChanging(undefined);
    users.reload();
    notify(said);
    if (made !== undefined) setSecret({ user, password: made });
  };
  const columns: Column<User>[] = [
    { key: "name", title: "User", show: (u) => u.name, sort: (u) => u.name },
    { key: "mechanisms", title: "Password for", show: (u) => <Mechanisms user={u} /> },
    { key: "rules", title: "Rules", show: (u) => <Link href={withQuery("/security", { tab: "rules", principal: fullPrincipal(u.name) })} aria-label={`What ${u.name} may do`}>Rules</Link> },
  ];
  if (may[changes] || may[deletes]) {
    columns.push({
      key: "do",
      title: "Change",
      show: (u) => (
        <span class="row-actions">
          {may[changes] && (
            <Button small label={`Change the password of ${u.name}`} onClick={() => setChanging(u.name)}>
              Change password
            </Button>
          )}
          {may[deletes] && (
            <Button small kind="danger" label={`Delete user ${u.name}`} onClick={() => setDeleting(u.name)}>
              Delete
            </Button>
          )}
        </span>
      ),
    });
  }
  return (
    <Section
      title="Users"
      actions={
        may[creates] && (
          <Button kind="primary" onClick={() => setCreating(true)}>
            Create user
          </Button>
        )
      }
    >
      <ProblemView error={users.error} retry={users.reload} />
      {users.loading ? (
        <Loading />
      ) : (
        <Table
          label="Users"
          name="user"
          columns={columns}
          rows={users.rows}
          rowKey={(u) => u.name}
          filter={(u) => u.name}
          sorted="name"
          empty={
            <Empty title="Nobody has a password yet." command="rustmq admin users create NAME">
              Clients that show certificates, or tokens of an identity provider, need none.
            </Empty>
          }
        />
      )}
      {creating && <PasswordDialog title="Create user" onClose={() => setCreating(false)} onDone={(user, made) => done(user, made, `User ${user} created. It may do nothing until a rule allows it.`)} />}
      {changing !== undefined && <PasswordDialog title="Change password" user={changing} onClose={() => setChanging(undefined)} onDone={(user, made) => done(user, made, `${user} has another password.`)} />}
      {deleting !== undefined && (
        <Confirm
          title="Delete user"
          action="Delete"
          typed={deleting}
          onClose={() => setDeleting(undefined)}
          onConfirm={async () => {
            await del(at`/api/v1/users/${deleting}`);
            notify(`User ${deleting} deleted.`);
            users.reload();
          }}
        >
          <p>
            <b>{deleting}</b> can log in no more: its sessions here and its API tokens end at once. Connections of Kafka clients that are open go on until they authenticate again. Its rules stay.
          </p>
        </Confirm>
      )}
      {secret && (
        <Secret title={`Password of ${secret.user}`} value={secret.password} onClose={() => setSecret(undefined)}>
          <p class="hint">Clients need the user name beside it, and SCRAM-SHA-512 or SCRAM-SHA-256 as mechanism.</p>
        </Secret>
      )}
    </Section>
  );
}

function Mechanisms({ user }: { user: User }) {
  return (
    <>
      {(user.mechanisms ?? []).map((m) => (
        <span key={m.mechanism} title={`${m.iterations.toLocaleString("en-US")} iterations`}>
          <Badge kind={m.lost ? "bad" : "muted"}>{m.lost ? `${m.mechanism}: lost, set it anew` : m.mechanism}</Badge>{" "}
        </span>
      ))}
    </>
  );
}

// PasswordDialog gives a user a password, a new user too. made is one that was made here, which is
// to be shown.
function PasswordDialog({ title, user, onClose, onDone }: { title: string; user?: string; onClose: () => void; onDone: (user: string, made: string | undefined) => void }) {
  const [name, setName] = useState(user ?? "");
  const [how, setHow] = useState("made");
  const [typed, setTyped] = useState("");
  const [again, setAgain] = useState("");
  const [mechanisms, setMechanisms] = useState("");
  const unlike = how === "typed" && again !== "" && typed !== again;
  const ready = name !== "" && (how === "made" || (typed !== "" && typed === again));
  const { go, busy, error } = useAction(async () => {
    const password = how === "made" ? makePassword() : typed;
    const body = { password, ...(mechanisms === "" ? {} : { mechanisms: [mechanisms] }) };
    if (user === undefined) await post("/api/v1/users", { name, ...body });
    else await put(at`/api/v1/users/${user}/password`, body);
    setTyped("");
    setAgain("");
    onDone(name, how === "made" ? password : undefined);
  });
  return (
    <Dialog title={user === undefined ? title : `${title} of ${user}`} onClose={onClose}>
      <Form onSubmit={() => ready && !busy && go()}>
        {user === undefined && <Field label="User name" name="new-user" value={name} onInput={setName} required autoFocus maxLength={256} autoComplete="off" />}
        <Select
          label="Password"
          value={how}
          onChange={setHow}
          options={[
            { value: "made", label: "Make one, and show it once" },
            { value: "typed", label: "I type one" },
          ]}
        />
        {how === "typed" && (
          <>
            <Field label="New password" name="new-password" type="password" value={typed} onInput={setTyped} required maxLength={1024} autoComplete="new-password" />
            <Field label="The same again" name="new-password-again" type="password" value={again} onInput={setAgain} required maxLength={1024} autoComplete="new-password" error={unlike ? "It is not the same." : undefined} />
          </>
        )}
        <Select
          label="For"
          value={mechanisms}
          onChange={setMechanisms}
          options={[
            { value: "", label: "SCRAM-SHA-512 and SCRAM-SHA-256" },
            { value: "SCRAM-SHA-512", label: "SCRAM-SHA-512 alone" },
            { value: "SCRAM-SHA-256", label: "SCRAM-SHA-256 alone" },
          ]}
          hint="Either is good for PLAIN too, where the servers offer it, and for this console."
        />
        {user !== undefined && <p class="hint">The old password is good for nothing at once, and sessions here that began with it end.</p>}
        <ProblemView error={error} />
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" disabled={!ready} busy={busy}>
            {user === undefined ? "Create" : "Change"}
          </Button>
        </div>
      </Form>
    </Dialog>
  );
}
