// Who is at the screen: a session of a user, nobody yet, or anybody where the server asks nobody.
// The cookie is the server's own and no script can read it; what is kept here is the token that
// changes have to carry beside it.
import { store } from "./store";
import type { Session } from "./types";

export type SessionState =
  | { kind: "unknown" } // not asked yet
  | { kind: "open" } // the server asks nobody: there is nothing to log in to
  | { kind: "in"; session: Session }
  | { kind: "out"; why: string }; // why is empty at the first visit

export const session = store<SessionState>({ kind: "unknown" });

// csrfToken is what changes say in X-CSRF-Token.
export function csrfToken(): string {
  const state = session.get();
  return state.kind === "in" ? (state.session.csrf_token ?? "") : "";
}

// ended is told when a call was answered with 401.
export function ended(why: string): void {
  const state = session.get();
  if (state.kind === "in") session.set({ kind: "out", why: why || "The session has ended." });
  else if (state.kind !== "out") session.set({ kind: "out", why: "" });
}
