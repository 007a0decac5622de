// One record: its key, value and headers as text, JSON or bytes.
import { useState } from "preact/hooks";
import { exact, whole } from "../../exact";
import { bytes, count, hex } from "../../format";
import type { Message } from "../../types";
import { Badge, Button, Command, Dialog, KeyValue, Time } from "../../ui";
import { bytesOf, indented, kindOf, preview, visible, type Part } from "../../text";

export const keyOf = (m: Message): Part => ({ text: m.key, base64: m.key_base64, size: m.key_bytes });
export const valueOf = (m: Message): Part => ({ text: m.value, base64: m.value_base64, size: m.value_bytes });

// PartPreview is a part in one line; null and empty are told apart from text that says so.
export function PartPreview({ part }: { part: Part }) {
  const kind = kindOf(part);
  if (kind === "null" || kind === "empty") return <Badge>{kind}</Badge>;
  return (
    <bdi class="mono preview">
      {kind === "binary" && <Badge>binary</Badge>} {preview(part)}
    </bdi>
  );
}

type View = "JSON" | "text" | "hex";

function PartView({ title, part }: { title: string; part: Part }) {
  const kind = kindOf(part);
  const text = part.text ?? "";
  const json = kind === "text" ? indented(text) : null;
  const views: View[] = kind === "text" ? (json === null ? ["text", "hex"] : ["JSON", "text", "hex"]) : ["hex"];
  const [asked, setAsked] = useState<View | undefined>();
  const view = asked && views.includes(asked) ? asked : (views[0] ?? "hex");
  const data = kind === "null" || kind === "empty" ? undefined : bytesOf(part);
  return (
    <section class="part">
      <header class="card-head">
        <h3>
          {title} <span class="muted">{kind === "null" ? "" : bytes(part.size)}</span>
        </h3>
        {data && (
          <div class="actions" role="group" aria-label={`${title} as`}>
            {views.map((v) => (
              <Button key={v} small pressed={v === view} onClick={() => setAsked(v)}>
                {v}
              </Button>
            ))}
          </div>
        )}
      </header>
      {data ? (
        <pre class={view === "hex" ? "content hex" : "content"} tabIndex={0} role="region" aria-label={`${title} as ${view}`}>
          {view === "hex" ? hex(data) : visible(view === "JSON" ? (json ?? text) : text)}
        </pre>
      ) : (
        <p>
          <Badge>{kind}</Badge> {kind === "null" ? "There is none." : "It is there, and has no bytes."}
        </p>
      )}
      {data && data.length < part.size && (
        <p class="hint">
          The first {bytes(data.length)} of {bytes(part.size)} are shown.
        </p>
      )}
    </section>
  );
}

const outcomes = {
  committed: "it is of a transaction that was committed",
  aborted: "it is of a transaction that was aborted: consumers that read what is committed do not get it",
  open: "its transaction, or one before it, is open: consumers that read what is committed do not get it yet",
  unknown: "it is of a transaction, which may have been aborted",
};

export function RecordDialog({ topic, message: m, onClose }: { topic: string; message: Message; onClose: () => void }) {
  const headers = m.headers ?? [];
  return (
    <Dialog title={`Offset ${exact(m, "offset")} of partition ${m.partition}`} onClose={onClose} wide>
      <KeyValue
        items={[
          ["Topic", topic],
          ["Time", m.timestamp ? <Time at={m.timestamp} /> : "it has none"],
          ["Transaction", m.transactional ? outcomes[m.transaction ?? "unknown"] : undefined],
        ]}
      />
      <PartView title="Key" part={keyOf(m)} />
      <PartView title="Value" part={valueOf(m)} />
      <section class="part">
        <h3>
          Headers <span class="muted">{count(m.header_count)}</span>
        </h3>
        {headers.length > 0 && (
          <div class="table-scroll" tabIndex={0} role="region" aria-label="headers">
            <table>
              <thead>
                <tr>
                  <th scope="col">Name</th>
                  <th scope="col">Value</th>
                </tr>
              </thead>
              <tbody>
                {headers.map((h, i) => (
                  <tr key={i}>
                    <th scope="row">
                      <bdi class="mono">{visible(h.key)}</bdi>
                    </th>
                    <td>
                      <HeaderValue part={{ text: h.value, base64: h.value_base64, size: 0 }} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
        {headers.length < m.header_count && <p class="hint">The first {count(headers.length)} of {count(m.header_count)} are shown.</p>}
      </section>
      {m.cut && (
        <>
          <p>What is cut here is printed whole by this, as is what other partitions have at that offset:</p>
          <Command text={`rustmq consume ${topic} -o ${exact(m, "offset")} --until ${whole(m, "offset") + 1n} -f json`} />
        </>
      )}
    </Dialog>
  );
}

function HeaderValue({ part }: { part: Part }) {
  const kind = kindOf(part);
  if (kind === "null" || kind === "empty") return <Badge>{kind}</Badge>;
  if (kind === "binary") return <pre class="content hex">{hex(bytesOf(part))}</pre>;
  return <bdi class="mono">{visible(part.text ?? "")}</bdi>;
}
