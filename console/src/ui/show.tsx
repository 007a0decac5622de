// Small things that show: badges, pairs of name and value, text to copy, times, and what is said
// where there is nothing, not yet, or an error.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Problem } from "../api";
import { ago, time, utc } from "../format";
import { Button } from "./form";

export type Kind = "ok" | "warn" | "bad" | "info" | "muted";

// Badge says a state; the word says it, the colour and the mark repeat it.
export function Badge({ kind = "muted", children }: { kind?: Kind; children: ComponentChildren }) {
  return <span class={`badge ${kind}`}>{children}</span>;
}

// KeyValue is a list of names and values; a value undefined is left out.
export function KeyValue({ items }: { items: [ComponentChildren, ComponentChildren][] }) {
  return (
    <dl class="kv">
      {items
        .filter(([, value]) => value !== undefined)
        .map(([key, value], i) => (
          <div key={i}>
            <dt>{key}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

// Command is text to paste elsewhere, with a button that copies it.
export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text); // over TLS and on loopback only
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      setCopied(false);
    }
  };
  return (
    <div class="command">
      <code tabIndex={0} role="textbox" aria-readonly="true" aria-label="command">
        {text}
      </code>
      {"clipboard" in navigator && (
        <Button small onClick={() => void copy()}>
          {copied ? "Copied" : "Copy"}
        </Button>
      )}
    </div>
  );
}

// Empty says what to do where there is nothing yet.
export function Empty({ title, command, children }: { title: string; command?: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div>{children}</div>}
      {command && <Command text={command} />}
    </div>
  );
}

export function Loading({ what = "Loading" }: { what?: string }) {
  return (
    <p class="loading" role="status">
      {what}…
    </p>
  );
}

// ProblemView shows an error: what happened, why, and a way to try again.
export function ProblemView({ error, retry }: { error: Problem | undefined; retry?: () => void }) {
  if (!error) return null;
  return (
    <div class="problem" role="alert">
      <p class="problem-title">
        {error.title}
        {error.status > 0 && <span class="muted"> ({error.status})</span>}
      </p>
      {error.detail && error.detail !== error.title && <p class="problem-detail">{error.detail}</p>}
      {retry && (
        <Button small onClick={retry}>
          Try again
        </Button>
      )}
    </div>
  );
}

// Time is a time in the zone of the reader, in UTC in its title; relative, as "3 min ago".
export function Time({ at, relative }: { at: string | number | Date | null | undefined; relative?: boolean }) {
  const exact = utc(at);
  if (exact === "") return <span>–</span>;
  return (
    <time dateTime={exact} title={relative ? `${time(at)} (${exact})` : exact}>
      {relative ? ago(at) : time(at)}
    </time>
  );
}
