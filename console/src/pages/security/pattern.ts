// Resources of access rules in the short form that `rustmq admin acl` takes: topic.orders is that
// topic, topic.orders.* all whose names begin with "orders.", topic.* all topics, cluster the one
// cluster. The server checks everything again.

export interface Pattern {
  resource_type: string;
  name: string;
  pattern: "literal" | "prefixed";
}

export const clusterName = "kafka-cluster";

// What each type of resource can be asked for, in Kafka's words; "all" is every one of them.
export const operationsOf: Readonly<Record<string, readonly string[]>> = {
  topic: ["read", "write", "create", "describe", "delete", "alter", "describe-configs", "alter-configs"],
  group: ["read", "describe", "delete", "describe-configs", "alter-configs"],
  cluster: ["describe", "alter", "create", "describe-configs", "alter-configs", "idempotent-write", "cluster-action"],
  "transactional-id": ["write", "describe", "two-phase-commit"],
  "delegation-token": ["describe"],
  user: ["create-tokens", "describe-tokens"],
};

export const resourceTypes: readonly string[] = Object.keys(operationsOf);

// parseResource reads the short form; text is why it is none.
export function parseResource(short: string): Pattern | { wrong: string } {
  const dot = short.indexOf(".");
  const type = dot < 0 ? short : short.slice(0, dot);
  const name = dot < 0 ? "" : short.slice(dot + 1);
  if (!Object.hasOwn(operationsOf, type)) {
    return { wrong: `Write TYPE.NAME, where TYPE is one of ${resourceTypes.join(", ")}: topic.orders, or topic.orders.* for all that begin with "orders.".` };
  }
  if (type === "cluster") {
    if (name !== "" && name !== clusterName && name !== "*") {
      return { wrong: "There is one cluster: write cluster." };
    }
    return { resource_type: type, name: clusterName, pattern: "literal" };
  }
  if (name === "") {
    return { wrong: `It has no name: write ${type}.NAME, or ${type}.* for all.` };
  }
  if (name === "*") {
    return { resource_type: type, name, pattern: "literal" };
  }
  const start = name.endsWith("*") ? name.slice(0, -1) : name;
  if (start.includes("*")) {
    return { wrong: "A * stands at the end, for whatever follows." };
  }
  return { resource_type: type, name: start, pattern: start === name ? "literal" : "prefixed" };
}

// shortResource writes what parseResource reads.
export function shortResource(p: { resource_type: string; name: string; pattern: string }): string {
  if (p.resource_type === "cluster") {
    return "cluster";
  }
  return p.resource_type + "." + p.name + (p.pattern === "prefixed" ? "*" : "");
}

// explainPattern says in words what a pattern is for.
export function explainPattern(p: Pattern): string {
  if (p.resource_type === "cluster") {
    return "the cluster";
  }
  const kind = p.resource_type.replace("-", " ");
  if (p.pattern === "prefixed") {
    return `every ${kind} whose name begins with “${p.name}”`;
  }
  return p.name === "*" ? `every ${kind}` : `the ${kind} “${p.name}” alone`;
}

// fullPrincipal is a principal as rules have it: a name alone is a user's.
export function fullPrincipal(name: string): string {
  return name.startsWith("User:") ? name : "User:" + name;
}
