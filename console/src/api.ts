// Calls of /api/v1. The cookie of the session goes with each of them by itself; what changes
// something carries the token of the session. A call that is refused for want of a session brings
// the login up, whoever made it.
import { parse } from "./exact";
import { csrfToken, ended } from "./session";

// Problem is an answer that says no (RFC 9457), or that there was none: then its status is 0.
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail || title);
  }
}

export type Query = Record<string, string | number | boolean | undefined | null>;

export interface CallOptions {
  ifMatch?: string; // the entity tag that the resource has to have still
  signal?: AbortSignal;
}

// Tagged is an answer with the entity tag that it came with, "" if none.
export interface Tagged<T> {
  body: T;
  tag: string;
}

// at makes a path of which each value is one segment, whatever is in it:
// at`/api/v1/topics/${name}`.
export function at(parts: TemplateStringsArray, ...values: (string | number)[]): string {
  return parts.reduce((path, part, i) => path + encodeURIComponent(values[i - 1] ?? "") + part);
}

export function withQuery(path: string, query?: Query): string {
  const parts: string[] = [];
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value === undefined || value === null || value === "" || value === false) continue;
    parts.push(`${encodeURIComponent(key)}=${encodeURIComponent(value)}`);
  }
  return parts.length === 0 ? path : path + (path.includes("?") ? "&" : "?") + parts.join("&");
}

export function get<T>(path: string, query?: Query, options?: CallOptions): Promise<T> {
  return call<T>("GET", path, query, undefined, options).then((a) => a.body);
}

// getTagged is get with the entity tag, which a change names in ifMatch.
export function getTagged<T>(path: string, query?: Query, options?: CallOptions): Promise<Tagged<T>> {
  return call<T>("GET", path, query, undefined, options);
}

export function post<T>(path: string, body?: unknown, options?: CallOptions): Promise<T> {
  return call<T>("POST", path, undefined, body, options).then((a) => a.body);
}

export function put<T>(path: string, body?: unknown, options?: CallOptions): Promise<T> {
  return call<T>("PUT", path, undefined, body, options).then((a) => a.body);
}

export function patch<T>(path: string, body?: unknown, options?: CallOptions): Promise<T> {
  return call<T>("PATCH", path, undefined, body, options).then((a) => a.body);
}

export function del<T>(path: string, query?: Query, body?: unknown, options?: CallOptions): Promise<T> {
  return call<T>("DELETE", path, query, body, options).then((a) => a.body);
}

// upload posts bytes, such as a module.
export function upload<T>(path: string, bytes: Blob, options?: CallOptions): Promise<T> {
  return call<T>("POST", path, undefined, bytes, options).then((a) => a.body);
}

async function call<T>(method: string, path: string, query: Query | undefined, body: unknown, options: CallOptions = {}): Promise<Tagged<T>> {
  const headers: Record<string, string> = { Accept: "application/json, application/problem+json" };
  let sent: BodyInit | undefined;
  if (body instanceof Blob) {
    headers["Content-Type"] = "application/octet-stream";
    sent = body;
  } else if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    sent = JSON.stringify(body);
  }
  if (method !== "GET" && csrfToken() !== "") headers["X-CSRF-Token"] = csrfToken();
  if (options.ifMatch) headers["If-Match"] = options.ifMatch;
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(withQuery(path, query), { method, headers, body: sent, signal: options.signal, credentials: "same-origin", redirect: "error", cache: "no-store" });
    text = await answer.text();
  } catch (why) {
    if (why instanceof DOMException && why.name === "AbortError") throw why;
    throw new Problem(0, "No answer", "The server does not answer: the connection is lost, or the process has stopped. What was asked may have been done.");
  }
  if (!answer.ok) {
    const problem = problemOf(answer.status, text);
    if (answer.status === 401 && !(method === "POST" && path === "/api/v1/session")) ended(problem.detail);
    throw problem;
  }
  return { body: (text === "" ? undefined : parse(text)) as T, tag: answer.headers.get("ETag") ?? "" };
}

function problemOf(status: number, text: string): Problem {
  try {
    const said = JSON.parse(text) as { title?: unknown; detail?: unknown; errors?: { message?: string; location?: string }[] };
    let detail = typeof said.detail === "string" ? said.detail : "";
    for (const e of said.errors ?? []) detail += `${detail ? "; " : ""}${e.location ? e.location + ": " : ""}${e.message ?? ""}`;
    return new Problem(status, typeof said.title === "string" ? said.title : `HTTP ${status}`, detail);
  } catch {
    return new Problem(status, `HTTP ${status}`, text.slice(0, 500).trim());
  }
}

// asProblem is what was thrown, as something that can be shown.
export function asProblem(thrown: unknown): Problem {
  if (thrown instanceof Problem) return thrown;
  return new Problem(0, "Something of this page failed", thrown instanceof Error ? thrown.message : String(thrown));
}
