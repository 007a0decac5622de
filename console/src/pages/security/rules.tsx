// Access rules (ACLs): which there are, also those that a principal or a resource falls under, making
// and deleting them. Filters stand in the address.
import { useMemo, useState } from "preact/hooks";
import { del } from "../../api";
import { useMay, usePages } from "../../hooks";
import { setQuery, useQuery } from "../../router";
import type { ACL } from "../../types";
import { Badge, Button, Confirm, Empty, Field, Loading, ProblemView, Section, Select, Table, notify, type Column } from "../../ui";
import { explainPattern, fullPrincipal, parseResource, shortResource } from "./pattern";
import { CreateRule } from "./rule-create";
import { useSettled } from "./settled";

const creates = "POST /api/v1/acls";
const deletes = "DELETE /api/v1/acls";

const ruleKey = (r: ACL): string => JSON.stringify([r.resource_type, r.name, r.pattern, r.principal, r.host, r.operation, r.permission]);
const words = (r: ACL): string => `${r.permission} ${r.principal} ${r.operation} ${shortResource(r)} ${r.host}`;

const columns: Column<ACL>[] = [
  { key: "principal", title: "Principal", show: (r) => (r.principal === "User:*" ? <b>everybody</b> : r.principal), sort: (r) => r.principal },
  { key: "permission", title: "Effect", show: (r) => <Badge kind={r.permission === "deny" ? "bad" : "ok"}>{r.permission}</Badge>, sort: (r) => r.permission },
  { key: "operation", title: "Operation", show: (r) => r.operation, sort: (r) => r.operation },
  { key: "resource", title: "On", mono: true, show: (r) => <span title={explain(r)}>{shortResource(r)}</span>, sort: shortResource },
  { key: "host", title: "From", show: (r) => (r.host === "*" ? "anywhere" : r.host), sort: (r) => r.host },
];

function explain(r: ACL): string {
  return explainPattern({ resource_type: r.resource_type, name: r.name, pattern: r.pattern === "prefixed" ? "prefixed" : "literal" });
}

export function Rules() {
  const [principal, setPrincipal] = useQuery("principal");
  const [concerns, setConcerns] = useQuery("concerns");
  const [permission, setPermission] = useQuery("permission");
  const on = useSettled(concerns);
  const resource = on === "" ? undefined : parseResource(on);
  const wrong = resource && "wrong" in resource ? resource.wrong : undefined;
  const as = useSettled(principal);
  const query = {
    principal: as === "" ? undefined : fullPrincipal(as),
    permission,
    ...(resource && !("wrong" in resource) ? { resource_type: resource.resource_type, name: resource.name, pattern: resource.pattern === "literal" && resource.name !== "*" ? "match" : resource.pattern } : {}),
  };
  const rules = usePages<ACL>(wrong === undefined ? "/api/v1/acls" : null, "acls", { query });
  const may = useMay([creates, deletes]);
  const [creating, setCreating] = useState(false);
  const [deleting, setDeleting] = useState<ACL>();
  const filtered = principal !== "" || concerns !== "" || permission !== "";
  const mayDelete = may[deletes] ?? false;
  const shown = useMemo(() => (mayDelete ? [...columns, deleteColumn(setDeleting)] : columns), [mayDelete]);
  return (
    <Section
      title="Access rules"
      actions={
        may[creates] && (
          <Button kind="primary" onClick={() => setCreating(true)}>
            Create rule
          </Button>
        )
      }
    >
      <div class="filters">
        <Field label="Principal" value={principal} onInput={setPrincipal} placeholder="User:alice" maxLength={1024} type="search" />
        <Field label="Concerning" value={concerns} onInput={setConcerns} placeholder="topic.orders" maxLength={400} type="search" error={wrong} />
        <Select
          label="Effect"
          value={permission}
          onChange={setPermission}
          options={[
            { value: "", label: "allow and deny" },
            { value: "allow", label: "allow" },
            { value: "deny", label: "deny" },
          ]}
        />
      </div>
      <ProblemView error={rules.error} retry={rules.reload} />
      {rules.loading ? (
        <Loading />
      ) : (
        <Table
          label="Access rules"
          name="rule"
          columns={shown}
          rows={rules.rows}
          rowKey={ruleKey}
          filter={words}
          sorted="principal"
          empty={
            filtered ? (
              <Empty title="No rule is so.">
                <Button onClick={() => setQuery({ principal: "", concerns: "", permission: "" })}>Show all rules</Button>
              </Empty>
            ) : (
              <Empty title="There are no rules yet." command="rustmq admin acl create --principal app --resource 'topic.events.*' --permissions read,write">
                Where authorisation is on, what no rule allows is denied, but to super users.
              </Empty>
            )
          }
        />
      )}
      {creating && (
        <CreateRule
          principal={principal}
          resource={wrong === undefined ? concerns : ""}
          onClose={() => setCreating(false)}
          onDone={(n) => {
            setCreating(false);
            notify(n === 1 ? "Rule created: it is in force within a second." : `${n} rules created: they are in force within a second.`);
            rules.reload();
          }}
        />
      )}
      {deleting && (
        <Confirm
          title="Delete rule"
          action="Delete"
          danger
          onClose={() => setDeleting(undefined)}
          onConfirm={async () => {
            const gone = await del<{ acls: ACL[] | null }>("/api/v1/acls", { ...deleting });
            notify((gone.acls ?? []).length === 1 ? "Rule deleted: it is out of force within a second." : "The rule was gone already.");
            rules.reload();
          }}
        >
          <p>
            <Badge kind={deleting.permission === "deny" ? "bad" : "ok"}>{deleting.permission}</Badge> <b>{deleting.principal}</b> to {deleting.operation} <code class="name">{shortResource(deleting)}</code>, {deleting.host === "*" ? "from anywhere" : `from ${deleting.host}`}.
          </p>
          <p>{deleting.permission === "deny" ? "What it forbids may be allowed by another rule from then on." : "What it alone allows is refused from then on, also on connections that are open."}</p>
        </Confirm>
      )}
    </Section>
  );
}

function deleteColumn(onDelete: (r: ACL) => void): Column<ACL> {
  return {
    key: "do",
    title: "Delete",
    show: (r) => (
      <Button small kind="danger" label={`Delete the rule: ${words(r)}`} onClick={() => onDelete(r)}>
        Delete
      </Button>
    ),
  };
}
