// Certificates of all nodes, the one that ends next first, and what renews each. One that several
// nodes show or trust is there once.
import { count } from "../../format";
import { useEvery, useGet } from "../../hooks";
import type { CertificatesOfNode, NodeCertificate } from "../../types";
import { Badge, Command, Empty, Loading, ProblemView, Section, Table, type Column } from "../../ui";
import { expiryOf, type Urgency } from "./expiry";
import { Life } from "./life";

interface Shown extends NodeCertificate {
  nodes: number[];
  uses: Set<NodeCertificate["use"]>;
}

const useWords: Record<NodeCertificate["use"], string> = {
  tls: "shown to clients",
  "client-ca": "authority of clients",
  cluster: "shown to other servers",
  "cluster-ca": "authority of servers",
};

// distinct gathers the same certificate of several nodes and uses.
function distinct(nodes: CertificatesOfNode[]): Shown[] {
  const all = new Map<string, Shown>();
  for (const node of nodes) {
    for (const c of node.certificates ?? []) {
      const known = all.get(c.sha256);
      if (known) {
        known.uses.add(c.use);
        if (!known.nodes.includes(node.node)) known.nodes.push(node.node);
      } else {
        all.set(c.sha256, { ...c, nodes: [node.node], uses: new Set([c.use]) });
      }
    }
  }
  return [...all.values()];
}

const isAuthority = (c: Shown): boolean => c.uses.has("client-ca") || c.uses.has("cluster-ca");

export function Certificates() {
  const { data, error, loading, reload } = useGet<{ nodes: CertificatesOfNode[] | null }>("/api/v1/certificates", { every: 60 });
  const now = useEvery(60);
  const nodes = data?.nodes ?? [];
  const silent = nodes.filter((n) => n.unknown);
  const rows = distinct(nodes);
  const urgent = new Map<Urgency, number>();
  for (const c of rows) {
    const { urgency } = expiryOf(c.not_before, c.not_after, now);
    urgent.set(urgency, (urgent.get(urgency) ?? 0) + 1);
  }
  const columns: Column<Shown>[] = [
    {
      key: "subject",
      title: "Certificate",
      show: (c) => (
        <>
          {c.subject || "(no subject)"}
          <div class="fine">of {c.issuer === c.subject ? "itself" : c.issuer}</div>
        </>
      ),
      sort: (c) => c.subject,
    },
    { key: "expires", title: "Left", show: (c) => <Life expiry={expiryOf(c.not_before, c.not_after, now)} end={c.not_after} />, sort: (c) => c.not_after },
    { key: "use", title: "For", show: (c) => [...c.uses].map((u) => useWords[u]).join(", "), sort: (c) => [...c.uses].join() },
    { key: "nodes", title: "Nodes", show: (c) => c.nodes.join(", "), sort: (c) => c.nodes[0] ?? 0 },
    {
      key: "names",
      title: "Names",
      show: (c) => (
        <>
          {(c.names ?? []).join(", ") || "–"}
          <div class="fine mono">serial {c.serial}</div>
        </>
      ),
    },
    { key: "file", title: "File", mono: true, show: (c) => c.file ?? "made by the node" },
  ];
  const due = rows.filter((c) => ["ended", "critical", "soon"].includes(expiryOf(c.not_before, c.not_after, now).urgency));
  return (
    <Section title="Certificates">
      <ProblemView error={error} retry={reload} />
      {loading && <Loading />}
      {data && (
        <div class="stack">
          <p role="status">
            {due.length === 0 ? (
              <Badge kind="ok">none ends within 30 days</Badge>
            ) : (
              <>
                {(urgent.get("ended") ?? 0) > 0 && <Badge kind="bad">{count(urgent.get("ended"))} ended</Badge>} {(urgent.get("critical") ?? 0) > 0 && <Badge kind="bad">{count(urgent.get("critical"))} within a week</Badge>}{" "}
                {(urgent.get("soon") ?? 0) > 0 && <Badge kind="warn">{count(urgent.get("soon"))} within 30 days</Badge>}
              </>
            )}
          </p>
          {silent.map((n) => (
            <p key={n.node}>
              <Badge kind="warn">node {n.node}</Badge> Its certificates are not known: {n.unknown}
            </p>
          ))}
          <Table
            label="Certificates"
            name="certificate"
            columns={columns}
            rows={rows}
            rowKey={(c) => c.sha256}
            filter={(c) => [c.subject, c.issuer, c.serial, c.sha256, c.file, ...(c.names ?? [])].join(" ")}
            sorted="expires"
            empty={<Empty title="No node shows a certificate.">Nothing here is spoken over TLS: what is bound to loopback needs none. docs/security.md has a secure cluster in three commands.</Empty>}
          />
          {rows.length > 0 && <Renewal due={due} />}
        </div>
      )}
    </Section>
  );
}

// Renewal says what renews what is due; without any, how it is done in general.
function Renewal({ due }: { due: Shown[] }) {
  const own = due.filter((c) => !isAuthority(c) && c.file);
  const files = [...new Set(own.map((c) => baseName(c.file ?? "")))].filter((name) => /^[\w.-]+$/.test(name));
  return (
    <div>
      <h3>What renews them</h3>
      <p>
        A certificate in a file is renewed where the authority is, and copied over the old one: nodes take it within seconds, and no connection is dropped. Where there is no file, the node has made its own authority, and renews by itself.
      </p>
      <Command text={files.length > 0 ? files.map((name) => `rustmq admin certs renew ${name} --out certs`).join("\n") : "rustmq admin certs renew --due 30 --out certs"} />
      {due.some(isAuthority) && (
        <>
          <p>An authority ends: another takes its place while all goes on, in three steps (docs/security.md, “Another authority”). It begins with</p>
          <Command text="rustmq admin ca rotate" />
        </>
      )}
    </div>
  );
}

function baseName(path: string): string {
  return (path.split("/").at(-1) ?? "").replace(/\.(pem|crt)$/, "");
}
