// Where one is: the path names the page, the query what of it one looks at. Both are in the
// address, so that it can be sent to somebody else.
import type { ComponentChildren, ComponentType } from "preact";
import { store, useStore } from "./store";

export interface Place {
  path: string;
  query: URLSearchParams;
}

// PageProps are what a page gets: the parts of the path that have names.
export interface PageProps {
  params: Record<string, string>;
}

// PageRoute is a page. Path has :names, each one segment: "/topics/:name/partitions".
export interface PageRoute {
  path: string;
  load: () => Promise<{ default: ComponentType<PageProps> }>;
}

function here(): Place {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

const place = store<Place>(here());
addEventListener("popstate", () => place.set(here()));

export function usePlace(): Place {
  return useStore(place);
}

// navigate goes to an address of this console.
export function navigate(to: string, options: { replace?: boolean } = {}): void {
  if (options.replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  place.set(here());
}

// useQuery is one value of the query, "" if it is not there, and how to set it: in place, so that
// "back" leaves the page. "" takes it away.
export function useQuery(key: string, fallback = ""): [string, (value: string) => void] {
  const { query } = usePlace();
  return [query.get(key) ?? fallback, (value) => setQuery({ [key]: value === fallback ? "" : value })];
}

export function setQuery(values: Record<string, string>): void {
  const next = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(values)) {
    if (value === "") next.delete(key);
    else next.set(key, value);
  }
  const text = next.toString();
  navigate(location.pathname + (text ? `?${text}` : ""), { replace: true });
}

export interface LinkProps {
  href: string;
  class?: string;
  title?: string;
  "aria-current"?: "page" | undefined;
  "aria-label"?: string;
  children?: ComponentChildren;
}

// Link is an anchor that does not load the page anew.
export function Link({ href, children, ...rest }: LinkProps) {
  return (
    <a
      {...rest}
      href={href}
      onClick={(e) => {
        if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
        e.preventDefault();
        navigate(href);
      }}
    >
      {children}
    </a>
  );
}

// match is the values of the names of a pattern in a path; null: it is another page's.
export function match(pattern: string, path: string): Record<string, string> | null {
  const want = pattern.split("/");
  const have = path.replace(/\/+$/, "").split("/");
  if (want.length !== have.length && !(pattern === "/" && path === "/")) return null;
  const params: Record<string, string> = {};
  for (const [i, part] of want.entries()) {
    const is = have[i] ?? "";
    if (part.startsWith(":")) {
      try {
        params[part.slice(1)] = decodeURIComponent(is);
      } catch {
        return null;
      }
    } else if (part !== is) return null;
  }
  return params;
}
