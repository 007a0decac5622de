// What is read of a topic: the newest records by a look into each partition, then what comes by a
// stream that goes on where that ended. It keeps so many records, and says what it passed over.
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { asProblem, get, withQuery, type Problem, type Query } from "../../api";
import { useStream, type StreamEvent, type StreamState } from "../../hooks";
import type { Message, PeekedMessages } from "../../types";
import { topicURL } from "./paths";

export const mostKept = 1000; // records that are shown
export const mostPartitions = 100; // of one stream
const newest = 50; // records of the first look, in all
const looked = 1000; // offsets of each partition that a first look with a filter goes through

export type From = "newest" | "now" | "start" | "offset" | "time";

export interface Asked {
  partition: string; // "" for all
  from: From;
  offset: string;
  time: string; // RFC 3339: the address means the same to who it is sent to
  key: string;
  value: string;
  header: string;
  rate: string;
}

// What the server says of a stream.
interface Begin {
  partitions: { partition: number; at: number; log_start: number; high_watermark: number }[];
}
interface Records {
  partition: number;
  log_start: number;
  high_watermark: number;
  next: number;
  looked: number;
  records: Message[];
}
interface Skipped {
  partition: number;
  from: number;
  to: number;
  why: string;
}
interface Trouble {
  partition: number;
  detail: string;
}

export interface Tail {
  messages: Message[]; // in the order they came
  total: number; // that came, of which the last are kept
  looked: number; // records read, that the filter does not take too
  left: number; // offsets between where it is and the ends of the partitions
  skipped: { from: number; to: number; partition: number; why: string }[];
  troubles: Map<number, string>; // by partition
  gone: string; // why the topic is not there any more
  state: StreamState | "paused";
  error: Problem | undefined;
  loading: boolean;
  follow: () => void;
  pause: () => void;
  clear: () => void;
}

interface Held {
  messages: Message[];
  total: number;
  looked: number;
  at: Map<number, { next: number; end: number }>;
  skipped: Tail["skipped"];
  troubles: Map<number, string>;
  gone: string;
}

const nothing = (): Held => ({ messages: [], total: 0, looked: 0, at: new Map(), skipped: [], troubles: new Map(), gone: "" });

export function useTail(topic: string, partitions: number, asked: Asked, turn: number): Tail {
  const url = topicURL(topic);
  const held = useRef(nothing());
  const [, show] = useState(0);
  const [live, setLive] = useState(asked.from === "now");
  const [place, setPlace] = useState(""); // where the next stream goes on
  const [error, setError] = useState<Problem | undefined>();
  const [loading, setLoading] = useState(false);
  const last = useRef("");
  const lookedFor = useRef("");
  const liveNow = useRef(live);
  liveNow.current = live;
  const drawn = useRef<number | undefined>(undefined);
  const draw = useCallback(() => {
    drawn.current ??= requestAnimationFrame(() => {
      drawn.current = undefined;
      show((n) => n + 1);
    });
  }, []);
  const filters = useMemo(() => ({ key: asked.key, value: asked.value, header: asked.header }), [asked.key, asked.value, asked.header]);
  const what = JSON.stringify([url, asked.partition, asked.from, asked.offset, asked.time, filters]);

  // What is asked for is another: begin anew.
  useEffect(() => {
    held.current = nothing();
    last.current = "";
    setPlace("");
    setError(undefined);
    setLive(asked.from === "now");
    draw();
  }, [what]);

  // The newest records of each partition, by looks.
  useEffect(() => {
    if (asked.from !== "newest" || (liveNow.current && lookedFor.current === what)) return;
    lookedFor.current = what;
    const abort = new AbortController();
    const wanted = asked.partition === "" ? Array.from({ length: Math.min(partitions, mostPartitions) }, (_, i) => i) : [Number(asked.partition)];
    const filtered = Object.values(filters).some((f) => f !== "");
    const limit = filtered ? looked : newest;
    setLoading(true);
    Promise.all(wanted.map((partition) => get<PeekedMessages>(`${url}/records`, { partition, limit, ...filters }, { signal: abort.signal }))).then(
      (looks) => {
        const is = nothing();
        is.messages = looks
          .flatMap((l) => l.records ?? [])
          .sort((a, b) => Date.parse(a.timestamp ?? "") - Date.parse(b.timestamp ?? "") || a.partition - b.partition || a.offset - b.offset)
          .slice(filtered ? -mostKept : -newest);
        is.total = is.messages.length;
        for (const l of looks) {
          is.looked += l.looked;
          is.at.set(l.partition, { next: l.next, end: l.high_watermark });
        }
        held.current = is;
        last.current = [...is.at].map(([partition, at]) => `${partition}:${at.next}`).join(",");
        setLoading(false);
        setError(undefined);
        draw();
      },
      (thrown) => {
        if (abort.signal.aborted) return;
        setLoading(false);
        setError(asProblem(thrown));
      },
    );
    return () => abort.abort();
  }, [what, turn, partitions]);

  const streamAt = useCallback(
    (id: string) => {
      const begin: Query = asked.from === "offset" ? { offset: asked.offset || "0" } : asked.from === "time" ? { time: asked.time } : { from: asked.from === "start" ? "start" : "" };
      return withQuery(`${url}/tail`, { partitions: asked.partition, ...filters, rate: asked.rate, ...begin, at: id });
    },
    [what, asked.rate],
  );
  const path = live ? streamAt(place) : null;
  const take = (e: StreamEvent<unknown>) => {
    if (e.id !== "") last.current = e.id;
    const is = held.current;
    switch (e.event) {
      case "begin":
        for (const p of (e.data as Begin).partitions) is.at.set(p.partition, { next: p.at < 0 ? p.log_start : p.at, end: p.high_watermark });
        break;
      case "records": {
        const r = e.data as Records;
        is.looked += r.looked;
        is.total += r.records.length;
        is.at.set(r.partition, { next: r.next, end: r.high_watermark });
        is.messages = [...is.messages, ...r.records].slice(-mostKept);
        break;
      }
      case "skipped":
        is.skipped = [...is.skipped, e.data as Skipped].slice(-100);
        break;
      case "trouble": {
        const t = e.data as Trouble;
        if (t.detail === "") is.troubles.delete(t.partition);
        else is.troubles.set(t.partition, t.detail);
        break;
      }
      case "gone":
        is.gone = (e.data as { detail: string }).detail;
        setLive(false);
        break;
    }
    draw();
  };
  const stream = useStream<unknown>(path, take, { events: ["begin", "records", "skipped", "trouble", "gone"], resume: streamAt });

  const is = held.current;
  let left = 0;
  for (const at of is.at.values()) left += Math.max(0, at.end - at.next);
  return {
    messages: is.messages,
    total: is.total,
    looked: is.looked,
    left,
    skipped: is.skipped,
    troubles: is.troubles,
    gone: is.gone,
    state: live ? stream.state : "paused",
    error: error ?? (live ? stream.error : undefined),
    loading,
    follow: () => {
      setPlace(last.current);
      setLive(true);
    },
    pause: () => setLive(false),
    clear: () => {
      is.messages = [];
      is.total = is.looked = 0;
      is.skipped = [];
      draw();
    },
  };
}
