// What is around each page: where one can go, how the cluster is, whether the server is heard, who
// is logged in.
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { asProblem, del, type Problem } from "./api";
import { useMay } from "./hooks";
import { live, useLive } from "./live";
import { Link, match, usePlace, type PageProps } from "./router";
import { areas, routes } from "./routes";
import { session } from "./session";
import { useStore } from "./store";
import { setTheme, theme, type Theme } from "./theme";
import { Button } from "./ui/form";
import { Page } from "./ui/page";
import { Badge, Empty, Loading, ProblemView } from "./ui/show";
import { notify } from "./ui/toast";

export function Shell() {
  const { path } = usePlace();
  useLive();
  const [open, setOpen] = useState(false); // the list of areas, on a phone
  useEffect(() => setOpen(false), [path]);
  const may = useMay(areas.flatMap((a) => a.asks ?? []));
  return (
    <div class="shell">
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <header class="top">
        <button type="button" class="menu" aria-expanded={open} aria-controls="areas" onClick={() => setOpen(!open)}>
          Menu
        </button>
        <Link href="/" class="brand">
          rustmq
        </Link>
        <div class="top-end">
          <Standing />
          <ThemeSwitch />
          <User />
        </div>
      </header>
      <nav id="areas" class={open ? "areas open" : "areas"} aria-label="Areas">
        <ul>
          {areas
            .filter((a) => !a.asks || may[a.asks])
            .map((a) => {
              const here = a.path === "/" ? path === "/" : path === a.path || path.startsWith(a.path + "/");
              return (
                <li key={a.path}>
                  <Link href={a.path} aria-current={here ? "page" : undefined}>
                    {a.title}
                  </Link>
                </li>
              );
            })}
        </ul>
        <p class="zone">Times are of {Intl.DateTimeFormat().resolvedOptions().timeZone}.</p>
      </nav>
      <main id="main" tabIndex={-1}>
        <Routed path={path} />
      </main>
    </div>
  );
}

function Routed({ path }: { path: string }) {
  for (const route of routes) {
    const params = match(route.path, path);
    if (params) return <Loaded key={route.path + JSON.stringify(params)} load={route.load} params={params} />;
  }
  return (
    <Page title="Not found">
      <Empty title={`There is no page ${path}.`}>
        <Link href="/">Go to the overview</Link>
      </Empty>
    </Page>
  );
}

function Loaded({ load, params }: { load: () => Promise<{ default: ComponentType<PageProps> }>; params: Record<string, string> }) {
  const [page, setPage] = useState<{ Is: ComponentType<PageProps> } | undefined>();
  const [error, setError] = useState<Problem | undefined>();
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let gone = false;
    setError(undefined);
    load().then(
      (m) => gone || setPage({ Is: m.default }),
      (thrown) => gone || setError(asProblem(thrown)),
    );
    return () => {
      gone = true;
    };
  }, [load, turn]);
  if (page) return <page.Is params={params} />;
  if (error) {
    return (
      <Page title="The page did not come">
        <ProblemView error={error} retry={() => setTurn(turn + 1)} />
        <p>
          After an upgrade of the server its pages have other names: <a href={location.href}>load the console anew</a>.
        </p>
      </Page>
    );
  }
  return <Loading />;
}

// Standing says on every page whether the cluster is well, and whether the server is heard.
function Standing() {
  const { state, overview } = useStore(live);
  const lost = state === "lost";
  const critical = overview?.problems?.some((p) => p.severity === "critical") ?? false;
  return (
    <div class="standing" role="status">
      {lost && <Badge kind="bad">Connection lost, trying again</Badge>}
      {!lost && overview?.judged && (
        <Link href={overview.healthy ? "/" : "/health"}>
          <Badge kind={overview.healthy ? "ok" : critical ? "bad" : "warn"}>{overview.healthy ? "All is well" : critical ? "Critical" : "Needs a look"}</Badge>
        </Link>
      )}
    </div>
  );
}

const themes: { is: Theme; title: string }[] = [
  { is: "system", title: "Auto" },
  { is: "light", title: "Light" },
  { is: "dark", title: "Dark" },
];

function ThemeSwitch() {
  const is = useStore(theme);
  return (
    <label class="theme">
      <span class="hidden">Theme</span>
      <select value={is} onChange={(e) => setTheme(e.currentTarget.value as Theme)}>
        {themes.map((t) => (
          <option key={t.is} value={t.is} selected={t.is === is}>
            {t.title}
          </option>
        ))}
      </select>
    </label>
  );
}

function User() {
  const state = useStore(session);
  if (state.kind !== "in") return null;
  const { principal, csrf_token } = state.session;
  const leave = async () => {
    try {
      await del("/api/v1/session");
      session.set({ kind: "out", why: "" });
    } catch (thrown) {
      const why = asProblem(thrown);
      if (why.status === 401) return; // it was over, and the call has said so
      notify(`You are logged in still: ${why.message}`, "bad"); // the cookie is the browser's to keep
    }
  };
  return (
    <div class="user">
      <span class="principal" title={principal}>
        {principal.replace(/^User:/, "")}
      </span>
      {csrf_token && (
        <Button small onClick={() => void leave()}>
          Log out
        </Button>
      )}
    </div>
  );
}
