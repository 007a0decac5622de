// How pages follow the server: what they read and read again, streams, and what the user may do.
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Problem, asProblem, get, post, withQuery, type Query } from "./api";
import { parse } from "./exact";
import { session } from "./session";
import { useStore } from "./store";

export interface GetState<T> {
  data: T | undefined; // of the last answer that came, also while a newer one is asked for
  error: Problem | undefined; // of the last call
  loading: boolean; // nothing has come yet
  reload: () => void;
}

export interface GetOptions {
  query?: Query;
  every?: number; // seconds until it is read again; not while the page is hidden
}

// useGet reads a path, and again as often as said; path null reads nothing.
export function useGet<T>(path: string | null, options: GetOptions = {}): GetState<T> {
  const url = path === null ? null : withQuery(path, options.query);
  const every = options.every ?? 0;
  const [state, setState] = useState<{ url: string | null; data?: T; error?: Problem }>({ url });
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  useEffect(() => {
    if (url === null) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const read = async () => {
      try {
        const data = await get<T>(url, undefined, { signal: abort.signal });
        setState({ url, data });
      } catch (thrown) {
        if (abort.signal.aborted) return;
        setState((was) => ({ url, data: was.url === url ? was.data : undefined, error: asProblem(thrown) }));
      }
      if (every > 0 && !abort.signal.aborted) timer = setTimeout(again, every * 1000);
    };
    const again = () => {
      if (document.hidden) {
        timer = setTimeout(again, 1000);
        return;
      }
      void read();
    };
    void read();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [url, every, turn]);
  const own = state.url === url ? state : { url };
  return { data: own.data, error: own.error, loading: url !== null && own.data === undefined && own.error === undefined, reload };
}

export interface PagesState<T> {
  rows: T[];
  complete: boolean; // all pages have come
  error: Problem | undefined;
  loading: boolean; // nothing has come yet
  reload: () => void;
}

// usePages reads a list of the API page by page until the end: rows grow as pages come. list names
// the field of the answer that has them.
export function usePages<T>(path: string | null, list: string, options: GetOptions & { page?: number } = {}): PagesState<T> {
  const url = path === null ? null : withQuery(path, { limit: options.page ?? 1000, ...options.query });
  const every = options.every ?? 0;
  const [state, setState] = useState<{ url: string | null; rows: T[]; complete: boolean; error?: Problem }>({ url, rows: [], complete: false });
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  useEffect(() => {
    if (url === null) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const read = async (first: boolean) => {
      const rows: T[] = [];
      let page = "";
      try {
        for (;;) {
          const answer = await get<Record<string, unknown> & { next?: string }>(url, { cursor: page }, { signal: abort.signal });
          rows.push(...((answer[list] as T[] | null | undefined) ?? []));
          page = answer.next ?? "";
          if (page === "") break;
          const shown = rows.slice();
          if (first) setState({ url, rows: shown, complete: false });
        }
        setState({ url, rows, complete: true });
      } catch (thrown) {
        if (abort.signal.aborted) return;
        setState((was) => ({ url, rows: was.url === url ? was.rows : [], complete: was.url === url && was.complete, error: asProblem(thrown) }));
      }
      if (every > 0 && !abort.signal.aborted) timer = setTimeout(again, every * 1000);
    };
    const again = () => {
      if (document.hidden) {
        timer = setTimeout(again, 1000);
        return;
      }
      void read(false);
    };
    void read(true);
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [url, every, list, turn]);
  const own = state.url === url ? state : { rows: [], complete: false, error: undefined };
  return { rows: own.rows, complete: own.complete, error: own.error, loading: url !== null && own.rows.length === 0 && !own.complete && own.error === undefined, reload };
}

export type StreamState = "off" | "connecting" | "live" | "lost";

export interface StreamEvent<T> {
  event: string; // its type
  id: string; // where a stream that begins again goes on; "" if none
  data: T;
}

export interface StreamOptions {
  // resume is the address to go on at after id; unset: the same one, with Last-Event-ID where the
  // browser itself connects again.
  resume?: (id: string) => string;
  events?: string[]; // types that are listened to, beside "message"
  // silence is how many seconds at most lie between two events: after more the connection is lost,
  // whatever the browser thinks of it.
  silence?: number;
}

const retries = [1, 2, 4, 8, 15]; // seconds between tries to connect

// useStream follows a stream of the server while the page is seen: a hidden one would hold a
// connection, of which a browser has six for a server. path null follows nothing.
export function useStream<T>(path: string | null, onEvent: (event: StreamEvent<T>) => void, options: StreamOptions = {}): { state: StreamState; error: Problem | undefined } {
  const [state, setState] = useState<StreamState>(path === null ? "off" : "connecting");
  const [error, setError] = useState<Problem | undefined>();
  const latest = useRef({ onEvent, options });
  latest.current = { onEvent, options };
  const types = (options.events ?? []).join(" ");
  useEffect(() => {
    if (path === null) {
      setState("off");
      setError(undefined);
      return;
    }
    let source: EventSource | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let tries = 0;
    let lastID = "";
    let gone = false;
    let quiet: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(quiet);
      const { silence } = latest.current.options;
      if (!silence) return;
      quiet = setTimeout(() => {
        close();
        setState("lost");
        again();
      }, silence * 1000);
    };
    const take = (e: MessageEvent<string>) => {
      heard();
      lastID = e.lastEventId || lastID;
      let data: T;
      try {
        data = parse(e.data) as T;
      } catch {
        return;
      }
      latest.current.onEvent({ event: e.type, id: e.lastEventId, data });
    };
    const close = () => {
      source?.close();
      source = undefined;
      clearTimeout(timer);
      clearTimeout(quiet);
    };
    const open = () => {
      if (document.hidden || gone || source) return;
      heard();
      const resume = latest.current.options.resume;
      source = new EventSource(lastID !== "" && resume ? resume(lastID) : path);
      source.onopen = () => {
        tries = 0;
        setState("live");
        setError(undefined);
      };
      source.onmessage = take;
      for (const type of types.split(" ").filter(Boolean)) source.addEventListener(type, take as EventListener);
      source.addEventListener("end", ((e: MessageEvent<string>) => {
        const why = endOf(e.data); // the server says why it ends the stream
        close();
        setState("lost");
        setError(new Problem(0, "The server ended the stream", why.reason));
        if (why.again) again();
        else void get("/api/v1/session").catch(() => undefined); // a session that is over brings the login up
      }) as EventListener);
      source.onerror = () => {
        setState("lost");
        if (source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
        close();
        // A refusal has no reason that a page can read: ask the same as a call does.
        void explain(path, (why) => {
          if (gone) return;
          setError(why);
          again();
        });
      };
    };
    const again = () => {
      clearTimeout(timer);
      timer = setTimeout(open, (retries[Math.min(tries++, retries.length - 1)] ?? 15) * 1000);
    };
    const seen = () => {
      if (document.hidden) close();
      else if (!source) open();
    };
    setState("connecting");
    open();
    document.addEventListener("visibilitychange", seen);
    return () => {
      gone = true;
      close();
      document.removeEventListener("visibilitychange", seen);
    };
  }, [path, types]);
  return { state, error };
}

function endOf(text: string): { reason: string; again: boolean } {
  try {
    const said = JSON.parse(text) as { reason?: string; again?: boolean };
    return { reason: said.reason ?? "The server ended the stream.", again: said.again ?? false };
  } catch {
    return { reason: "The server ended the stream.", again: true };
  }
}

// explain finds out why a stream was refused.
async function explain(path: string, then: (why: Problem | undefined) => void): Promise<void> {
  const abort = new AbortController();
  try {
    const answer = await fetch(path, { headers: { Accept: "text/event-stream" }, signal: abort.signal, cache: "no-store" });
    abort.abort(); // it is served now
    if (answer.ok) return then(undefined);
  } catch {
    return then(undefined);
  }
  try {
    await get(path);
    then(undefined);
  } catch (thrown) {
    then(asProblem(thrown));
  }
}

// What the user may do, by calls such as "DELETE /api/v1/topics/x". Questions of one moment go
// together; answers are kept for a while.
const mayFor = 30_000; // ms
const mayAtOnce = 100; // calls of one question
const known = new Map<string, { allowed: boolean; at: number }>();
let asked: { calls: Set<string>; done: Promise<void> } | undefined;

session.subscribe(() => known.clear());

function ask(calls: string[]): Promise<void> {
  if (!asked) {
    const batch = new Set<string>();
    const done = Promise.resolve().then(async () => {
      asked = undefined;
      const all = [...batch];
      for (let i = 0; i < all.length; i += mayAtOnce) {
        const part = all.slice(i, i + mayAtOnce);
        const { allowed } = await post<{ allowed: boolean[] }>("/api/v1/session/may", { calls: part });
        part.forEach((call, n) => known.set(call, { allowed: allowed[n] ?? false, at: Date.now() }));
      }
    });
    asked = { calls: batch, done };
  }
  for (const call of calls) asked.calls.add(call);
  return asked.done;
}

// useMay answers which of some calls the server would not refuse to this user; false until it is
// known. Where the server asks nobody, all are. A call is "METHOD /path", and where its body names
// what it is about, "METHOD /path {json}": without one it is about any.
export function useMay(calls: string[]): Record<string, boolean> {
  const state = useStore(session);
  const open = state.kind === "open";
  const key = calls.join("\n");
  const [, setTurn] = useState(0);
  useEffect(() => {
    if (open || key === "") return;
    let gone = false;
    const look = () => {
      const old = key.split("\n").filter((call) => Date.now() - (known.get(call)?.at ?? 0) > mayFor);
      if (old.length === 0) return;
      ask(old).then(
        () => gone || setTurn((n) => n + 1),
        () => undefined, // what is not known is not offered
      );
    };
    look();
    const timer = setInterval(look, mayFor);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [key, open, state]);
  return Object.fromEntries(calls.map((call) => [call, open || (known.get(call)?.allowed ?? false)]));
}

// mayKnown reports whether the server has answered whether a call is allowed.
export function mayKnown(call: string): boolean {
  return session.get().kind === "open" || known.has(call);
}

// useEvery is a time that moves, for what says "3 s ago".
export function useEvery(seconds: number): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
  return now;
}

// useAction runs what a button does: busy meanwhile, and what went wrong.
export function useAction(run: () => Promise<void>): { go: () => void; busy: boolean; error: Problem | undefined } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Problem | undefined>();
  const latest = useRef(run);
  latest.current = run;
  const go = useMemo(
    () => () => {
      setBusy(true);
      setError(undefined);
      latest.current().then(
        () => setBusy(false),
        (thrown) => {
          setBusy(false);
          setError(asProblem(thrown));
        },
      );
    },
    [],
  );
  return { go, busy, error };
}
