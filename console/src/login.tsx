// The login. It stands where the page was that asked for it, so that the page is there afterwards:
// no address to return to is passed about.
import { useEffect, useRef, useState } from "preact/hooks";
import { post } from "./api";
import { useAction } from "./hooks";
import { session } from "./session";
import type { Session } from "./types";
import { Button, Field, Form } from "./ui/form";
import { ProblemView } from "./ui/show";

export function Login({ why }: { why: string }) {
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = "Log in · rustmq";
    if (why) heading.current?.focus();
  }, [why]);
  const { go, busy, error } = useAction(async () => {
    const begun = await post<Session>("/api/v1/session", { user, password });
    setPassword("");
    session.set({ kind: "in", session: begun });
  });
  return (
    <main class="login">
      <h1 ref={heading} tabIndex={-1}>
        rustmq
      </h1>
      {why && (
        <p class="login-why" role="status">
          {why}
        </p>
      )}
      <Form onSubmit={() => !busy && go()} label="Log in">
        <Field label="User" name="user" value={user} onInput={setUser} autoComplete="username" required autoFocus maxLength={256} />
        <Field label="Password" name="password" type="password" value={password} onInput={setPassword} autoComplete="current-password" required maxLength={1024} />
        <ProblemView error={error} />
        <Button type="submit" kind="primary" busy={busy} disabled={user === "" || password === ""}>
          Log in
        </Button>
      </Form>
      <p class="hint">
        Users have passwords: <code>rustmq admin users create NAME</code>, on the machine of the server, makes the first one, and <code>rustmq admin acl create</code> says what it may do.
      </p>
    </main>
  );
}
