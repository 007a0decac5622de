// The console: who is there decides between the login and the pages.
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { asProblem, get } from "./api";
import { Login } from "./login";
import { session } from "./session";
import { Shell } from "./shell";
import { useStore } from "./store";
import "./style.css";
import type { Session } from "./types";
import { Loading } from "./ui/show";
import { Toasts } from "./ui/toast";

// arrive asks who the browser is logged in as. A server that asks nobody says so.
async function arrive(): Promise<void> {
  for (let wait = 1; ; wait = Math.min(2 * wait, 15)) {
    try {
      const is = await get<Session>("/api/v1/session");
      session.set(is.open ? { kind: "open" } : { kind: "in", session: is });
      return;
    } catch (thrown) {
      const problem = asProblem(thrown);
      if (problem.status === 401) return; // the call has said so
      await new Promise((done) => setTimeout(done, wait * 1000));
    }
  }
}

function App() {
  const state = useStore(session);
  useEffect(() => void arrive(), []);
  return (
    <>
      {state.kind === "unknown" && <Loading what="Asking the server" />}
      {state.kind === "out" && <Login why={state.why} />}
      {(state.kind === "in" || state.kind === "open") && <Shell />}
      <Toasts />
    </>
  );
}

const root = document.getElementById("app");
if (root) render(<App />, root);
