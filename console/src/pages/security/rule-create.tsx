// The form that makes access rules: Kafka's operations, on a resource in the short form.
import { useState } from "preact/hooks";
import { post } from "../../api";
import { useAction } from "../../hooks";
import { Button, Check, Dialog, Field, Form, ProblemView, Select } from "../../ui";
import { explainPattern, fullPrincipal, operationsOf, parseResource } from "./pattern";

export interface CreateRuleProps {
  principal: string;
  resource: string;
  onClose: () => void;
  onDone: (rules: number) => void;
}

export function CreateRule(p: CreateRuleProps) {
  const [principal, setPrincipal] = useState(p.principal);
  const [permission, setPermission] = useState("allow");
  const [resource, setResource] = useState(p.resource);
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const [host, setHost] = useState("*");
  const pattern = resource === "" ? undefined : parseResource(resource);
  const is = pattern && !("wrong" in pattern) ? pattern : undefined;
  const offered = is ? [...(operationsOf[is.resource_type] ?? []), "all"] : [];
  const operations = chosen.filter((op) => offered.includes(op));
  const ready = principal !== "" && is !== undefined && operations.length > 0 && host !== "";
  const { go, busy, error } = useAction(async () => {
    if (!is) return;
    await post("/api/v1/acls", { acls: operations.map((operation) => ({ principal: fullPrincipal(principal), permission, operation, host, ...is })) });
    p.onDone(operations.length);
  });
  const choose = (op: string, on: boolean) => setChosen(on ? [...operations, op] : operations.filter((one) => one !== op));
  return (
    <Dialog title="Create rule" onClose={p.onClose}>
      <Form onSubmit={() => ready && !busy && go()}>
        <Field label="Principal" value={principal} onInput={setPrincipal} required autoFocus maxLength={1024} placeholder="User:alice" hint="A user, or the subject of a certificate (User:CN=alice); User:* is everybody." />
        <Select
          label="Effect"
          value={permission}
          onChange={setPermission}
          options={[
            { value: "allow", label: "Allow" },
            { value: "deny", label: "Deny, which wins over what is allowed" },
          ]}
        />
        <Field
          label="On"
          value={resource}
          onInput={setResource}
          required
          mono
          maxLength={400}
          placeholder="topic.orders.*"
          error={pattern && "wrong" in pattern ? pattern.wrong : undefined}
          hint={is ? `This is ${explainPattern(is)}.` : "topic.orders is one topic, topic.orders.* all that begin with “orders.”, topic.* all; the same for group, transactional-id and user; cluster."}
        />
        {offered.length > 0 && (
          <fieldset class="operations">
            <legend>Operations</legend>
            <div>
              {offered.map((op) => (
                <Check key={op} label={op} checked={operations.includes(op)} onChange={(on) => choose(op, on)} />
              ))}
            </div>
            <p class="hint">Read, write, delete and alter include describe; alter-configs includes describe-configs; all includes everything.</p>
          </fieldset>
        )}
        <Field label="From" value={host} onInput={setHost} required maxLength={100} hint="An address, a range such as 10.0.0.0/8, or * for anywhere." />
        <ProblemView error={error} />
        <div class="dialog-foot">
          <Button onClick={p.onClose}>Cancel</Button>
          <Button type="submit" kind="primary" disabled={!ready} busy={busy}>
            {operations.length > 1 ? `Create ${operations.length} rules` : "Create"}
          </Button>
        </div>
      </Form>
    </Dialog>
  );
}
